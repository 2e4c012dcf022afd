"""Speedups do not change the result: a step is the step of transformers' padded model with eager attention."""

import copy

import numpy as np
import pytest
import tiny
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
)

from cola.data.tables import Sentences
from cola.model import batching, classifier, families
from cola.train import speedups

compared = []  # the configurations that a sweep has tried


def build_split(*input_ids):
    """A split of sentences, all with label 0."""
    return Sentences([np.array(ids) for ids in input_ids], np.zeros(len(input_ids), dtype=np.int64))


@pytest.fixture
def tiny_step(device):
    """A model, a packed batch, its labels."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny.config()).eval().to(device)
    batch = classifier.collate(model, *make_random_batch(9, 40, seed=0)[:1], packed=True)
    return model, batch, torch.tensor([0, 1, 1] * 3)


def backward(model, batch, labels, precision=torch.float32):
    loss = cross_entropy(classifier.compute_logits(model, batch, precision), labels.to(model.device))
    loss.backward()
    return loss.item()


def compare_a_step(config, input_ids, labels):
    """Compare loss and all gradients with those of transformers' model, in float32 without dropout."""
    model = AutoModelForSequenceClassification.from_config(copy.deepcopy(config)).eval()
    reference = copy.deepcopy(model)
    reference.set_attn_implementation("eager")
    batch = batching.pad(input_ids, reference.config.pad_token_id)
    loss = reference(**batch._asdict(), labels=labels).loss
    loss.backward()
    expected = {name: weights.grad for name, weights in reference.named_parameters()}
    table = next(name for name in expected if name.endswith(("word_embeddings.weight", "tok_embeddings.weight")))
    splits = {"train": Sentences(input_ids, labels.numpy())}
    with speedups.prepare(model, splits, tiny.RECIPE, torch.float32) as (renumbered, (weights,), _):
        fast_loss = backward(model, classifier.collate(model, renumbered["train"].input_ids, packed=True), labels)
        named = dict(model.named_parameters())
        flat = weights.grad.split([parameter.numel() for parameter in named.values()])
        actual = {name: gradient.view(named[name].shape) for name, gradient in zip(named, flat, strict=True)}
    used = np.unique(np.concatenate([[reference.get_input_embeddings().padding_idx], *input_ids]))
    actual[table] = torch.zeros_like(expected[table]).index_copy(0, torch.tensor(used), actual[table])
    assert fast_loss == pytest.approx(loss.item(), rel=1e-5)
    # A key's bias shifts all scores of a softmax alike: its true gradient is 0, its actual gradient is rounding.
    largest = max(gradient.norm().item() for gradient in expected.values())
    for name, gradient in expected.items():
        distance = (actual[name] - gradient).norm().item()
        assert distance <= 1e-5 * max(gradient.norm().item(), 1e-2 * largest), name
    compared.append(config)


def make_random_batch(sentences, vocabulary, seed):
    rng = np.random.default_rng(seed)
    input_ids = [rng.integers(4, vocabulary, rng.integers(3, 48)) for _ in range(sentences)]
    return input_ids, torch.tensor(rng.integers(0, 2, sentences))


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_step_is_the_padded_models_step_for_any_shape_and_batch(family):
    from hypothesis import given, settings  # a machine for the tests marked gpu may lack it
    from hypothesis import strategies as some

    compared.clear()

    @settings(max_examples=8)
    @given(
        layers=some.integers(1, 4),
        heads=some.sampled_from([1, 2, 3, 4]),
        size=some.sampled_from([2, 4, 8]),
        inner=some.integers(1, 40),
        sentences=some.integers(1, 40),
        seed=some.integers(0, 2**32 - 1),
    )
    def compare_shape(layers, heads, size, inner, sentences, seed):
        torch.manual_seed(seed)
        compare_a_step(tiny.configure(family, heads, size, layers, inner), *make_random_batch(sentences, 50, seed))

    compare_shape()
    assert len(compared) >= 5


@pytest.mark.parametrize("frozen", [0, 1])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_a_step_in_low_precision_is_autocasts(precision, frozen, tiny_step):
    model, batch, labels = tiny_step
    families.freeze(model, frozen)
    expected = copy.deepcopy(model)
    trained = [parameter for parameter in expected.parameters() if parameter.requires_grad]
    with speedups.flatten_weights(model, precision) as weights:
        for changed in (0.0, 0.01):  # the copies must follow the weights
            with torch.no_grad():
                weights += changed
                for parameter in trained:
                    parameter += changed
            expected.zero_grad()
            assert backward(model, batch, labels, precision) == backward(expected, batch, labels, precision)
            gradient = torch.cat([parameter.grad.flatten() for parameter in trained])
            assert torch.equal(weights.grad, gradient)
            backward(model, batch, labels, precision)
            assert torch.equal(weights.grad, 2 * gradient), "gradients must add up within a step"
            weights.grad = None
    for actual, weights in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(actual, weights)


def test_a_validation_uses_the_last_steps_weights(tiny_step):
    model, batch, labels = tiny_step
    reference = copy.deepcopy(model)
    with speedups.flatten_weights(model, torch.bfloat16) as weights:
        optimizer = torch.optim.AdamW([weights], lr=0.1, fused=True)
        for _ in range(3):
            backward(model, batch, labels, torch.bfloat16)
            optimizer.step()
            torch.nn.utils.vector_to_parameters(weights.detach(), reference.parameters())
            with torch.inference_mode():
                expected = classifier.compute_logits(reference, batch, torch.bfloat16)  # autocast, without copies
                assert torch.equal(classifier.compute_logits(model, batch, torch.bfloat16), expected)


def test_only_used_rows_are_trained_and_the_full_table_is_back_afterwards():
    model = BertForSequenceClassification(tiny.config())
    table = model.get_input_embeddings()
    before = table.weight.detach().clone()
    splits = {"train": build_split([2, 9, 3]), "validation": build_split([2, 7, 9, 3])}
    with speedups.prepare(model, splits, tiny.RECIPE, torch.bfloat16) as (renumbered, (weights,), _):
        assert table.weight.shape == (5, 16)  # 0 (padding), 2, 3, 7, 9
        assert renumbered["train"].input_ids[0].tolist() == [1, 4, 2]
        assert renumbered["validation"].input_ids[0].tolist() == [1, 3, 4, 2]
        with torch.no_grad():
            weights += 1
    assert table.weight.shape == (40, 16)
    assert table.padding_idx == 0
    moved = (table.weight != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [0, 2, 3, 7, 9]
    assert "classifier.weight" in model.state_dict()


def test_with_weight_decay_every_row_is_trained():
    model = BertForSequenceClassification(tiny.config())
    splits = {"train": build_split([2, 9, 3])}
    recipe = tiny.RECIPE.model_copy(update={"weight_decay": 0.01})
    with speedups.prepare(model, splits, recipe, torch.float32) as (unchanged, _, _):
        assert unchanged is splits
        assert model.get_input_embeddings().weight.shape == (40, 16)
