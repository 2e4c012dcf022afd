"""Nothing that is done for speed changes what is computed: each part against transformers' padded, eager model."""

import copy

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch.nn.functional import cross_entropy
from transformers import BertForSequenceClassification

from benchmarks import same_step, workload
from cola.data.ragged import RaggedArray
from cola.model import attention, classifier, hardware
from cola.train import speedups

WORDS = "bert.embeddings.word_embeddings.weight"
compared = []  # the configurations that a sweep has tried


def backward(model, batch, labels):
    loss = cross_entropy(classifier.logits(model, batch), labels)
    loss.backward()
    return loss.item()


def compare_a_step(config, input_ids, labels, tolerance=1e-5):
    """Loss and every gradient in float32 without dropout, fast against padded and eager."""
    model = BertForSequenceClassification(config).eval()
    reference = copy.deepcopy(model)
    reference.set_attn_implementation("eager")
    loss = backward(reference, classifier.collate(reference, input_ids, packed=False), labels)
    expected = {name: weights.grad for name, weights in reference.named_parameters()}
    with speedups.fast_training(model, [RaggedArray.from_rows(input_ids)], torch.float32, 0.0) as (
        (renumbered,),
        (weights,),
    ):
        fast_loss = backward(model, classifier.collate(model, renumbered, packed=True), labels)
        named = dict(model.named_parameters())
        flat = weights.grad.split([parameter.numel() for parameter in named.values()])
        found = {name: gradient.view(named[name].shape) for name, gradient in zip(named, flat, strict=True)}
    used = np.unique(np.concatenate([[0], *input_ids]))
    found[WORDS] = torch.zeros_like(expected[WORDS]).index_copy(0, torch.tensor(used), found[WORDS])
    assert fast_loss == pytest.approx(loss, rel=tolerance)
    # A key's bias shifts all scores of a softmax alike: its true gradient is 0, and what is there is rounding.
    largest = max(gradient.norm().item() for gradient in expected.values())
    for name, gradient in expected.items():
        distance = (found[name] - gradient).norm().item()
        assert distance <= tolerance * max(gradient.norm().item(), 1e-2 * largest), name
    compared.append(config)


def random_batch(sentences, vocabulary, seed):
    rng = np.random.default_rng(seed)
    input_ids = [rng.integers(1, vocabulary, rng.integers(3, 48)) for _ in range(sentences)]
    return input_ids, torch.tensor(rng.integers(0, 2, sentences))


@pytest.mark.parametrize("shape", ["all-MiniLM-L6-v2", pytest.param("bert-base-uncased", marks=pytest.mark.slow)])
def test_a_step_is_the_padded_models_step(shape):
    torch.manual_seed(0)
    compare_a_step(workload.SHAPES[shape], *random_batch(32, 30522, seed=0))


def test_a_step_is_the_padded_models_step_for_any_shape_and_batch():
    compared.clear()

    @settings(max_examples=60)
    @given(
        layers=some.integers(1, 3),
        heads=some.sampled_from([1, 2, 3, 4]),
        size=some.sampled_from([2, 4, 8]),
        inner=some.integers(1, 40),
        sentences=some.integers(1, 40),
        seed=some.integers(0, 2**32 - 1),
    )
    def try_one(layers, heads, size, inner, sentences, seed):
        torch.manual_seed(seed)
        config = tiny.config(
            num_hidden_layers=layers, num_attention_heads=heads, hidden_size=heads * size, intermediate_size=inner
        )
        compare_a_step(config, *random_batch(sentences, 40, seed))

    try_one()
    assert len(compared) >= 50


def test_in_bfloat16_a_step_deviates_as_autocast_does():
    model = workload.model("all-MiniLM-L6-v2", torch.device("cpu")).eval()
    batch = workload.batches(1, seed=0)[0]
    reference = same_step.step(model, batch, torch.float32, packed=False)
    found, autocast = (
        same_step.deviation(same_step.step(model, batch, torch.bfloat16, packed), reference) for packed in (True, False)
    )
    assert autocast[1] > 1e-3, "bfloat16 has a precision of 1 in 256"
    assert found[1] <= 1.1 * autocast[1]
    assert found[0] <= 5e-3


def test_the_copies_in_bfloat16_are_what_autocast_would_make():
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny.config()).eval()
    expected = copy.deepcopy(model)
    batch = classifier.collate(model, *random_batch(9, 40, seed=0)[:1], packed=True)
    labels = torch.tensor([0, 1, 1] * 3)
    with speedups.flat_weights(model, torch.bfloat16) as weights:
        for changed in (0.0, 0.01):  # the second step has other weights: the copies follow
            with torch.no_grad():
                weights += changed
                for parameter in expected.parameters():
                    parameter += changed
            expected.zero_grad()
            with hardware.autocast(model.device, torch.bfloat16):
                assert backward(model, batch, labels) == backward(expected, batch, labels)
            gradient = torch.cat([parameter.grad.flatten() for parameter in expected.parameters()])
            assert torch.equal(weights.grad, gradient)
            with hardware.autocast(model.device, torch.bfloat16):
                backward(model, batch, labels)
            assert torch.equal(weights.grad, 2 * gradient), "gradients do not add up within a step"
            torch.optim.SGD([weights], lr=0.0).step()
    for parameter, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(parameter, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_a_tenth_and_keeps_the_mean(dtype):
    torch.manual_seed(0)
    dropped = attention.dropout(torch.full((1000, 1000), 1.5, dtype=dtype), 0.1).double()
    # A million draws: the share of zeros is 0.1 within five standard deviations of sqrt(0.1 * 0.9 / 1e6) = 0.0003.
    assert (dropped == 0).double().mean().item() == pytest.approx(0.1, abs=0.0015)
    left = dropped[dropped != 0]
    assert left.unique().numel() == 1
    assert left[0].item() == pytest.approx(1.5 / 0.9, rel=4e-3 if dtype == torch.bfloat16 else 1e-4)


def test_dropouts_gradient_goes_where_the_value_went():
    values = torch.randn(200, requires_grad=True)
    dropped = attention.dropout(values, 0.5)
    dropped.sum().backward()
    assert torch.equal(values.grad == 0, dropped == 0)
    assert torch.all(values.grad[dropped != 0] == 2)


def test_dropout_of_evaluation_or_of_nothing_changes_nothing():
    values = torch.randn(5)
    assert attention.Dropout(0.5).eval()(values) is values
    assert torch.equal(attention.dropout(values, 0.0), values)


def test_the_whole_table_is_back_with_the_trained_rows_in_it():
    model = BertForSequenceClassification(tiny.config())
    table = model.get_input_embeddings()
    before = table.weight.detach().clone()
    sentences = [RaggedArray.from_rows([[2, 9, 3]]), RaggedArray.from_rows([[2, 7, 9, 3]])]
    with speedups.fast_training(model, sentences, torch.bfloat16, 0.0) as ((training, validation), (weights,)):
        assert table.weight.shape == (5, 16)  # 0 (padding), 2, 3, 7, 9
        assert training[0].tolist() == [1, 4, 2]
        assert validation[0].tolist() == [1, 3, 4, 2]
        with torch.no_grad():
            weights += 1
    assert table.weight.shape == (40, 16)
    assert table.padding_idx == 0
    moved = (table.weight != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [0, 2, 3, 7, 9]
    assert "classifier.weight" in model.state_dict()


def test_with_weight_decay_every_row_takes_part():
    model = BertForSequenceClassification(tiny.config())
    sentences = [RaggedArray.from_rows([[2, 9, 3]])]
    with speedups.fast_training(model, sentences, torch.float32, 0.01) as (same, _):
        assert same is sentences
        assert model.get_input_embeddings().weight.shape == (40, 16)
