"""Attention and dropout, with values worked out by hand. test_families.py compares attention with transformers'."""

import pytest
import torch

from cola.model import attention


def test_a_token_attends_to_its_sentence_only():
    two_and_one = torch.tensor([[[[1, 1, 0], [1, 1, 0], [0, 0, 1]]]], dtype=torch.bool)  # tokens of two sentences
    values = torch.tensor([[[[1.0], [3.0], [7.0]]]])  # (row, head, token, size)
    equal = torch.zeros(1, 1, 3, 1)  # queries and keys: all scores are equal
    context, _ = attention.attend(
        torch.nn.Identity(), equal, equal, values, attention.make_additive_mask(two_and_one), scaling=1.0
    )
    assert context.flatten().tolist() == [2.0, 2.0, 7.0]


def test_the_rows_of_a_mask_lie_a_multiple_of_8_apart():
    mask = attention.make_additive_mask(torch.tensor([[True, False, True], [True, True, True]]))
    assert mask.tolist() == [[0, -torch.inf, 0], [0, 0, 0]]
    assert mask.stride() == (8, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_zeroes_a_tenth_and_keeps_the_mean(dtype):
    torch.manual_seed(0)
    values = torch.full((1000, 1000), 1.5, dtype=dtype, requires_grad=True)
    dropped = attention.drop(values, 0.1)
    dropped.sum().backward()
    # A million cases: the share of zeros is 0.1 within five standard deviations of sqrt(0.1 * 0.9 / 1e6) = 0.0003.
    assert (dropped == 0).double().mean().item() == pytest.approx(0.1, abs=0.0015)
    rest = dropped[dropped != 0].detach().double()
    assert rest.unique().numel() == 1
    assert rest[0].item() == pytest.approx(1.5 / 0.9, rel=4e-3 if dtype == torch.bfloat16 else 1e-4)
    assert torch.equal(values.grad == 0, dropped == 0)


def test_no_dropout_changes_nothing():
    values = torch.randn(5)
    assert attention.Dropout(0.5).eval()(values) is values
    assert torch.equal(attention.drop(values, 0.0), values)
    assert torch.equal(attention.drop(values, 2.0**-18), values), "rounded to 1 in 65,536"


@pytest.mark.parametrize("probability", [1.0, 1 - 2.0**-30])
def test_a_dropout_of_1_leaves_nothing(probability):
    assert torch.equal(attention.drop(torch.randn(5), probability), torch.zeros(5))
