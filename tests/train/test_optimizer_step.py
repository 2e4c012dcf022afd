import numpy as np
import pytest
import tiny
import torch
from tiny import RECIPE
from transformers import BertForSequenceClassification

from cola.train import loop, optimizer_step


def test_the_norm_of_many_numbers_is_exact():
    gradients = [torch.full((2**25,), 3e-4), torch.full((2**13, 2**12), 4e-4)]  # half of the numbers in each
    assert optimizer_step.compute_norm(gradients).item() == pytest.approx(5e-4 * 2**12.5, rel=1e-5)


def test_a_class_without_sentences_has_a_finite_weight():
    model = BertForSequenceClassification(tiny.config(num_labels=3))
    sentences = tiny.to_train_on(tiny.sentences(8))._replace(labels=np.array([0, 0, 0, 1, 0, 0, 0, 1]))
    recipe = RECIPE.model_copy(update={"class_weights": "balanced"})
    with loop.prepare(model, {"train": sentences, "validation": sentences}, recipe, torch.float32, seed=5) as training:
        assert training.class_weights.tolist() == pytest.approx([8 / (3 * 6), 8 / (3 * 2), 8 / (3 * 1)])
