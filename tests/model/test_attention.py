"""Attention with literals, and the dropout that costs less."""

import pytest
import torch

from cola.model import attention

SENTENCES_OF_TWO_AND_ONE = torch.tensor([[[[1, 1, 0], [1, 1, 0], [0, 0, 1]]]], dtype=torch.bool)  # in one row


def test_a_token_reads_its_sentence_alone():
    values = torch.tensor([[[[1.0], [3.0], [7.0]]]])  # (row, head, token, size)
    equal = torch.zeros(1, 1, 3, 1)  # queries and keys: all scores are alike
    mask = attention.additive_mask(SENTENCES_OF_TWO_AND_ONE)
    read, _ = attention.attend(torch.nn.Identity(), equal, equal, values, mask, scaling=1.0)
    assert read.flatten().tolist() == [2.0, 2.0, 7.0]


@pytest.mark.parametrize(("width", "scaling", "expected"), [(1, 0.5, 0.7310586), (4, None, 0.8807971)])
def test_scores_are_scaled(width, scaling, expected):
    """1 / (1 + exp(-2 * 0.5)); without a scale it is the root of a head's width, 1 / (1 + exp(-4 / 2))."""
    query = torch.tensor([2.0, 2.0, 0.0, 0.0])[:width].view(1, 1, 1, width)
    key, values = torch.tensor([[0.0], [1.0]]).expand(1, 1, 2, width), torch.tensor([[[[0.0], [1.0]]]])
    read, _ = attention.attend(torch.nn.Identity(), query, key, values, None, scaling)
    assert read.item() == pytest.approx(expected)


def test_weights_are_dropped():
    torch.manual_seed(0)
    equal, values = torch.zeros(50, 4, 4, 2), torch.ones(50, 4, 4, 1)
    read, _ = attention.attend(torch.nn.Identity(), equal, equal, values, None, dropout=0.5)
    assert sorted(read.unique().tolist()) == [0.0, 0.5, 1.0, 1.5, 2.0]  # of four weights of 1/4, each is 0 or doubled


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_a_tenth_and_keeps_the_mean(dtype):
    torch.manual_seed(0)
    dropped = attention.drop(torch.full((1000, 1000), 1.5, dtype=dtype), 0.1).double()
    # A million draws: the share of zeros is 0.1 within five standard deviations of sqrt(0.1 * 0.9 / 1e6) = 0.0003.
    assert (dropped == 0).double().mean().item() == pytest.approx(0.1, abs=0.0015)
    left = dropped[dropped != 0]
    assert left.unique().numel() == 1
    assert left[0].item() == pytest.approx(1.5 / 0.9, rel=4e-3 if dtype == torch.bfloat16 else 1e-4)


def test_dropouts_gradient_goes_where_the_value_went():
    values = torch.randn(200, requires_grad=True)
    dropped = attention.drop(values, 0.5)
    dropped.sum().backward()
    assert torch.equal(values.grad == 0, dropped == 0)
    assert torch.all(values.grad[dropped != 0] == 2)


def test_dropout_of_evaluation_or_of_nothing_changes_nothing():
    values = torch.randn(5)
    assert attention.Dropout(0.5).eval()(values) is values
    assert torch.equal(attention.drop(values, 0.0), values)
