import copy
import re

import numpy as np
import pytest
import tiny
import torch
from tiny import RECIPE
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import BertForSequenceClassification

from benchmarks import tutorial
from cola.core.errors import UserError
from cola.model import prediction
from cola.train import checkpoint, history, loop
from cola.train.checkpoint import Checkpointer
from cola.train.history import LossScale


def change(**settings):
    return RECIPE.model_copy(update=settings)


def build_model(dropout=0.0, device="cpu"):
    torch.manual_seed(3)
    config = tiny.config(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return BertForSequenceClassification(config).to(device)


def fit(model, recipe=RECIPE, precision=torch.float32, checkpointer=None, on_epoch=print):
    train, validation = (tiny.to_train_on(tiny.sentences(*sizes)) for sizes in ((20,), (9, 1)))
    with loop.prepare(model, {"train": train, "validation": validation}, recipe, precision, seed=5) as training:
        return loop.fit(training, checkpointer or Checkpointer(), on_epoch=on_epoch)


def pad(table, rows):
    ids = [torch.tensor(table["input_ids"][row], dtype=torch.int64) for row in rows]
    return nn.utils.rnn.pad_sequence(ids, batch_first=True), torch.tensor(table["label"].to_numpy()[rows])


def assert_same_weights(model, expected):
    for (name, weights), same in zip(model.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(weights, same), name


class FromScale(Checkpointer):
    """Begins a training with this loss scale, and holds its progress."""

    def __init__(self, factor, path=None):
        super().__init__(path)
        self.factor = factor

    def load(self, optimizer):
        self.progress = super().load(optimizer)
        if not self.progress.steps_done:
            self.progress.loss_scale = LossScale(self.factor)
        return self.progress


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("fast", "length"), [(True, 64), (False, 0)])
def test_training_is_the_tutorials_loop(monkeypatch, fast, length, device):
    """The expected values are from benchmarks/tutorial.py, a loop of PyTorch's parts, here on the CPU."""
    trained, reference, norms, clip = build_model(device=device), build_model(), [], nn.utils.clip_grad_norm_
    with monkeypatch.context() as patch:
        patch.setattr(nn.utils, "clip_grad_norm_", lambda weights, limit: norms.append(clip(weights, limit).item()))
        losses = list(tutorial.fit(reference, tiny.to_train_on(tiny.sentences(20)), RECIPE, 5, length))
    epochs = fit(trained, change(fast=fast))
    steps = history.tabulate_steps(epochs)
    assert min(norms) < 0.5 < max(norms), "some steps must be clipped, and others not"
    assert steps["step"].to_list() == [1, 2, 3, 4, 5, 6]
    assert steps["learning_rate"].to_numpy() == pytest.approx(1e-3 * np.array([6, 5, 4, 3, 2, 1]) / 6)
    assert steps["loss"].to_numpy() == pytest.approx(np.array(losses), rel=1e-4)
    assert steps["gradient_norm"].to_numpy() == pytest.approx(np.array(norms), rel=1e-3)
    assert epochs[0].training_loss == pytest.approx(np.mean(losses[:3]), rel=1e-4)
    start = dict(build_model().named_parameters())
    for name, expected in reference.named_parameters():
        # A key's bias has no gradient but rounding, which AdamW turns into steps of full size.
        if "key.bias" not in name:
            distance = (dict(trained.named_parameters())[name].cpu() - expected).norm()
            assert distance <= 0.02 * (expected - start[name]).norm() + 1e-5, name


def test_an_epochs_record_has_the_validation_sentences_figures():
    trained = build_model(dropout=0.1)
    last = fit(trained)[-1]
    validation = tiny.sentences(9, seed=1)
    logits = torch.from_numpy(prediction.predict_logits(trained, validation["input_ids"].to_list(), torch.float32))
    labels = torch.tensor(validation["label"].to_numpy())
    assert last.validation_loss == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-4)
    assert last.validation_accuracy == (logits.argmax(dim=1) == labels).double().mean().item()
    assert (last.sentences, len(last.steps)) == (20, 3)
    assert last.tokens == sum(map(len, tiny.sentences(20)["input_ids"]))


def test_max_steps_does_not_change_the_schedule():
    steps = history.tabulate_steps(fit(build_model(), change(max_steps=4)))
    assert steps["learning_rate"].to_numpy() == pytest.approx(1e-3 * np.array([6, 5, 4, 3]) / 6)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("dies_in", [None, 2, 3, 4])
def test_early_stopping_leaves_the_model_of_the_best_epoch(tmp_path, monkeypatch, fast, dies_in):
    """Validation MCCs of 0.1, 0.3, 0.3, 0.2 and two epochs of patience: the fourth epoch is the last."""
    expected, recipe = build_model(), change(epochs=8, fast=fast, early_stopping=2)
    fit(expected, change(epochs=8, fast=fast, max_steps=6))  # two epochs

    epochs, mccs = [], iter([0.1, 0.3, 0.3, 0.2, 0.9])

    def mcc(labels, predicted):
        if dies_in and len(epochs) == dies_in - 1:
            raise KilledError
        return next(mccs)

    monkeypatch.setattr(loop.metrics, "compute_mcc", mcc)
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    checkpointer = Checkpointer(tmp_path / "checkpoint.safetensors")
    if dies_in:
        with pytest.raises(KilledError):
            fit(build_model(), recipe, checkpointer=checkpointer, on_epoch=epochs.append)
    dies_in, epochs, stopped = None, [], build_model()
    fit(stopped, recipe, checkpointer=checkpointer, on_epoch=epochs.append)
    assert [epoch.validation_mcc for epoch in epochs] == [0.1, 0.3, 0.3, 0.2]
    assert history.select_epoch(epochs, recipe).epoch == 2
    assert_same_weights(stopped, expected)


def spoil_bias(weights):
    weights["classifier.bias"].fill_(torch.nan)


def spoil_unused_row(weights):
    weights["bert.embeddings.word_embeddings.weight"][4] = torch.inf  # [MASK], in no sentence


def overflow_float16(weights):
    weights["bert.encoder.layer.0.intermediate.dense.weight"] *= 1e7  # LayerNorm makes these values small again


@pytest.mark.parametrize(
    ("changes", "precision", "spoil", "line"),
    [
        ({"learning_rate": 1e30}, torch.float32, dict, "epoch 1 went wrong (validation loss nan)"),
        ({}, torch.float32, spoil_bias, "step 1 went wrong (loss nan, norm of the gradient nan)"),
        ({"fast": False}, torch.float32, spoil_unused_row, "the last step went wrong (largest weight inf)"),
        ({}, torch.float16, overflow_float16, "step 1 went wrong (loss nan, norm of the gradient nan)"),
    ],
)
def test_figures_that_are_not_finite_end_the_training_in_a_line_whose_remedies_help(changes, precision, spoil, line):
    remedy = ": lower train.learning_rate" + ", or set precision to float32" * (precision == torch.float16)
    spoiled = build_model()
    with torch.no_grad():
        spoil(dict(spoiled.named_parameters()))
    with pytest.raises(UserError, match=f"^{re.escape(line + remedy)}$"):
        fit(copy.deepcopy(spoiled), change(**changes, max_steps=1), precision)
    if spoil in (dict, overflow_float16):  # only a different encoder helps in the two other cases
        assert fit(spoiled)[-1].steps[-1].step == 6


def test_a_training_that_diverges_to_finite_losses_prints_a_line(capsys):
    fit(build_model(), change(learning_rate=1e4, max_steps=1))
    line = r"epoch 1 diverged \(validation loss \S+, of guessing 0.693\): lower train.learning_rate\n"
    assert re.match(line, capsys.readouterr().out)
    fit(build_model())
    assert "diverged" not in capsys.readouterr().out


@pytest.mark.parametrize("fast", [True, False])
def test_an_overflow_in_float16_changes_nothing_but_the_scale(fast, capsys):
    """A step that begins with a scale of 2**40 has the bytes of a step that begins with the scale it ends with."""
    recipe = change(fast=fast, micro_batch_tokens=30, max_steps=1)
    large, small, too_large = build_model(), build_model(), FromScale(2.0**40)
    steps = history.tabulate_steps(fit(large, recipe, torch.float16, too_large))
    lowered = too_large.progress.loss_scale
    assert lowered.overflows > 10
    assert lowered.factor == 2.0 ** (40 - lowered.overflows)
    assert f"float16: gradients overflowed {lowered.overflows} times" in capsys.readouterr().out
    fitting = FromScale(lowered.factor)
    assert steps.equals(history.tabulate_steps(fit(small, recipe, torch.float16, fitting)))
    assert fitting.progress.loss_scale == LossScale(lowered.factor, 1, 0)
    assert_same_weights(large, small)
    exact = history.tabulate_steps(fit(build_model(), recipe))
    for column in ("loss", "gradient_norm"):
        assert steps[column].to_numpy() == pytest.approx(exact[column].to_numpy(), rel=1e-2)


@pytest.mark.parametrize(("fast", "precision"), [(True, torch.float32), (False, torch.float32), (True, torch.float16)])
@pytest.mark.parametrize("dead_after", range(1, 6))
def test_a_killed_training_continues_as_if_it_had_not_been_killed(
    tmp_path, monkeypatch, dead_after, fast, precision, device
):
    """Six steps, the first `dead_after` of them in the checkpoint; the second process has another random state.

    In float16, the first step lowers the loss scale.
    """
    recipe, path = change(fast=fast), tmp_path / "checkpoint.safetensors"
    undisturbed, resumed = build_model(0.1, device), build_model(0.1, device)
    expected, actual = FromScale(2.0**34), FromScale(1.0, path)
    torch.manual_seed(8)
    epochs = fit(undisturbed, recipe, precision, expected)

    def die_in_step(training, rows, progress):
        if progress.steps_done == dead_after:
            raise KilledError
        return take_optimizer_step(training, rows, progress)

    take_optimizer_step, killed = loop.take_optimizer_step, build_model(0.1, device)
    torch.manual_seed(8)
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(loop, "take_optimizer_step", die_in_step)
    with pytest.raises(KilledError):
        fit(killed, recipe, precision, FromScale(2.0**34, path))
    monkeypatch.setattr(loop, "take_optimizer_step", take_optimizer_step)
    assert checkpoint.read_progress(path).steps_done == dead_after
    for weights, same in zip(killed.parameters(), undisturbed.parameters(), strict=True):  # whole again
        assert (weights.shape, weights.dtype) == (same.shape, same.dtype)

    torch.manual_seed(99)
    resumed_epochs = fit(resumed, recipe, precision, actual)
    assert_same_weights(resumed, undisturbed)
    assert history.tabulate_epochs(resumed_epochs).equals(history.tabulate_epochs(epochs))
    assert history.tabulate_steps(resumed_epochs).equals(history.tabulate_steps(epochs))
    assert actual.progress.loss_scale == expected.progress.loss_scale
    assert (expected.progress.loss_scale.overflows > 0) == (precision == torch.float16)


@pytest.mark.parametrize("changes", [{}, {"fast": False}, {"micro_batch_tokens": 12}], ids=str)
def test_a_loss_with_class_weights_is_torchs(changes):
    """The first batch's loss, computed whole or in micro-batches."""
    table, reference = tiny.sentences(20), build_model()
    ids, labels = pad(table, np.random.default_rng([5, 1]).permutation(20)[:8])
    weights = torch.tensor([20 / (2 * count) for count in np.bincount(table["label"])], dtype=torch.float32)
    logits = reference(input_ids=ids, attention_mask=(ids != 0).long()).logits
    assert weights[0] != weights[1]
    epochs = fit(build_model(), change(class_weights="balanced", max_steps=1, **changes))
    assert epochs[0].steps[0].loss == pytest.approx(cross_entropy(logits, labels, weights).item(), rel=1e-5)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("fast", [True, False])
def test_only_frozen_layers_keep_their_weights(fast, weight_decay):
    """The losses are a plain training's with the same frozen layers; the first loss is also one without them."""
    recipe = change(frozen_layers=1, fast=fast, weight_decay=weight_decay)
    trained, start = build_model(), dict(build_model().named_parameters())
    losses = history.tabulate_steps(fit(trained, recipe))["loss"].to_numpy()
    frozen = [name for name in start if name.startswith(("bert.embeddings.", "bert.encoder.layer.0."))]
    assert len(frozen) == 5 + 16
    for name, weights in trained.named_parameters():
        assert torch.equal(weights, start[name]) == (name in frozen), name
    plain = history.tabulate_steps(fit(build_model(), recipe.model_copy(update={"fast": False})))
    assert losses == pytest.approx(plain["loss"].to_numpy(), rel=1e-4)
    unfrozen = history.tabulate_steps(fit(build_model(), change(fast=fast)))["loss"].to_numpy()
    assert losses[0] == pytest.approx(unfrozen[0])
    assert losses[-1] != pytest.approx(unfrozen[-1], rel=1e-3)
