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

from cola.core.errors import UserError
from cola.model import prediction
from cola.train import checkpoint, history, loop
from cola.train.checkpoint import Checkpointer
from cola.train.history import LossScale


def model(dropout=0.0, device="cpu"):
    torch.manual_seed(3)
    config = tiny.config(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return BertForSequenceClassification(config).to(device)


def fitted(classifier_model, recipe=RECIPE, precision=torch.float32, checkpointer=None, on_epoch=print):
    train, validation = (tiny.to_train_on(tiny.sentences(*sizes)) for sizes in ((20,), (9, 1)))
    splits = {"train": train, "validation": validation}
    with loop.prepare(classifier_model, splits, recipe, precision, seed=5) as training:
        return loop.fit(training, checkpointer or Checkpointer(), on_epoch=on_epoch)


class FromScale(Checkpointer):
    """A training that begins with this loss scale, and its progress."""

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


def test_the_learning_rate_falls_to_zero_in_a_line():
    assert loop.linear_decay(0, 964) == 1  # the tutorial's: 4 epochs of 241 batches
    assert loop.linear_decay(482, 964) == 0.5
    assert loop.linear_decay(963, 964) == pytest.approx(1 / 964)


def test_the_norm_of_many_numbers_is_exact():
    gradients = [torch.full((2**25,), 3e-4), torch.full((2**13, 2**12), 4e-4)]  # each half of the numbers
    assert loop.total_norm(gradients).item() == pytest.approx(5e-4 * 2**12.5, rel=1e-5)


@pytest.mark.parametrize("fast", [True, False])
def test_training_is_the_tutorials_loop(fast, device):
    """Against the loop spelled out on the CPU with PyTorch's parts: AdamW, clip_grad_norm_, padded sentences."""
    trained = model(device=device)
    epochs = fitted(trained, RECIPE.model_copy(update={"fast": fast}))
    reference = model()
    reference.train()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-3, eps=1e-8, weight_decay=0.0, betas=(0.9, 0.999))
    table = tiny.sentences(20)
    losses, norms = [], []
    for epoch in (1, 2):
        order = np.random.default_rng([5, epoch]).permutation(20)
        for rows in (order[:8], order[8:16], order[16:]):
            longest = max(len(table["input_ids"][row]) for row in rows)
            ids = np.stack(
                [np.pad(table["input_ids"][row], (0, longest - len(table["input_ids"][row]))) for row in rows]
            )
            ids = torch.tensor(ids, dtype=torch.int64)
            optimizer.param_groups[0]["lr"] = 1e-3 * (1 - len(losses) / 6)
            optimizer.zero_grad()
            logits = reference(input_ids=ids, attention_mask=(ids != 0).long()).logits
            loss = cross_entropy(logits, torch.tensor(table["label"].to_numpy()[rows]))
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(reference.parameters(), 0.5).item())
            optimizer.step()
            losses.append(loss.item())
    steps = history.step_table(epochs)
    assert min(norms) < 0.5 < max(norms), "clipping or its absence was not tried"
    assert steps["step"].to_list() == [1, 2, 3, 4, 5, 6]
    assert steps["learning_rate"].to_numpy() == pytest.approx(1e-3 * np.array([6, 5, 4, 3, 2, 1]) / 6)
    assert steps["loss"].to_numpy() == pytest.approx(np.array(losses), rel=1e-4)
    assert steps["gradient_norm"].to_numpy() == pytest.approx(np.array(norms), rel=1e-3)
    assert epochs[0].training_loss == pytest.approx(np.mean(losses[:3]), rel=1e-4)
    start = dict(model().named_parameters())
    for name, expected in reference.named_parameters():
        # A key's bias has no gradient but rounding, which AdamW turns into steps of full size.
        if "key.bias" not in name:
            distance = (dict(trained.named_parameters())[name].cpu() - expected).norm()
            assert distance <= 0.02 * (expected - start[name]).norm() + 1e-5, name


def test_the_record_of_an_epoch_is_that_of_the_validation_sentences():
    trained = model(dropout=0.1)
    last = fitted(trained)[-1]
    validation = tiny.sentences(9, seed=1)
    logits = torch.from_numpy(prediction.predict_logits(trained, validation["input_ids"].to_list(), torch.float32))
    labels = torch.tensor(validation["label"].to_numpy())
    assert last.validation_loss == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-4)
    assert last.validation_accuracy == (logits.argmax(dim=1) == labels).double().mean().item()
    assert (last.sentences, len(last.steps)) == (20, 3)
    assert last.tokens == sum(map(len, tiny.sentences(20)["input_ids"]))


def test_it_learns_what_can_be_learnt():
    recipe = RECIPE.model_copy(update={"epochs": 40, "learning_rate": 5e-3})
    epochs = fitted(model(dropout=0.1), recipe)
    assert epochs[0].training_loss > 0.6
    assert epochs[-1].training_loss < 0.2


def test_max_steps_ends_early_on_the_schedule_of_the_whole_run():
    steps = history.step_table(fitted(model(), RECIPE.model_copy(update={"max_steps": 4})))
    assert steps["learning_rate"].to_numpy() == pytest.approx(1e-3 * np.array([6, 5, 4, 3]) / 6)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("dies_in", [None, 2, 3, 4])
def test_early_stopping_leaves_the_model_of_the_best_epoch(tmp_path, monkeypatch, fast, dies_in):
    """Validation MCCs of 0.1, 0.3, 0.3, 0.2 and two epochs of patience: the fifth epoch never comes."""
    recipe = RECIPE.model_copy(update={"epochs": 8, "fast": fast})
    expected = model()
    fitted(expected, recipe.model_copy(update={"max_steps": 6}))  # of 3 in an epoch

    recipe = recipe.model_copy(update={"early_stopping": 2})
    mccs, path = iter([0.1, 0.3, 0.3, 0.2, 0.9]), tmp_path / "checkpoint.safetensors"

    def mcc(labels, predicted):
        if dies_in is not None and len(trained) == dies_in - 1 and not died:
            died.append(True)
            raise KilledError
        return next(mccs)

    monkeypatch.setattr(loop.metrics, "mcc", mcc)
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    died, trained = [], []
    stopped = model()
    for _ in range(2 if dies_in else 1):
        trained = []
        try:
            fitted(stopped, recipe, checkpointer=Checkpointer(path), on_epoch=trained.append)
        except KilledError:
            stopped = model()
    assert [epoch.validation_mcc for epoch in trained] == [0.1, 0.3, 0.3, 0.2]
    assert history.select_epoch(trained, recipe).epoch == 2
    for (name, one), other in zip(stopped.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other), name


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
def test_what_is_not_finite_ends_the_training_in_a_line_whose_remedies_help(changes, precision, spoil, line):
    remedy = ": lower train.learning_rate" + ", or set precision to float32" * (precision == torch.float16)
    spoiled = model()
    with torch.no_grad():
        spoil(dict(spoiled.named_parameters()))
    with pytest.raises(UserError, match=f"^{re.escape(line + remedy)}$"):
        fitted(copy.deepcopy(spoiled), RECIPE.model_copy(update=changes | {"max_steps": 1}), precision)
    if spoil in (dict, overflow_float16):  # the remedies; another encoder's weights help against the other two
        assert fitted(spoiled)[-1].steps[-1].step == 6


def test_a_training_that_diverges_to_finite_losses_says_so(capsys):
    fitted(model(), RECIPE.model_copy(update={"learning_rate": 1e4, "max_steps": 1}))
    line = r"epoch 1 diverged \(validation loss \S+, of guessing 0.693\): lower train.learning_rate\n"
    assert re.match(line, capsys.readouterr().out)
    fitted(model())
    assert "diverged" not in capsys.readouterr().out


@pytest.mark.parametrize("fast", [True, False])
def test_an_overflow_in_float16_changes_nothing_but_the_scale(fast, capsys):
    """A step's bytes, from 2**40 on, are those from the scale at which no gradient overflows."""
    recipe = RECIPE.model_copy(update={"fast": fast, "micro_batch_tokens": 30, "max_steps": 1})
    large, small, too_large = model(), model(), FromScale(2.0**40)
    found = history.step_table(fitted(large, recipe, torch.float16, too_large))
    lowered = too_large.progress.loss_scale
    assert lowered.overflows > 10
    assert lowered.factor == 2.0 ** (40 - lowered.overflows)
    assert f"float16: gradients overflowed {lowered.overflows} times" in capsys.readouterr().out
    fitting = FromScale(lowered.factor)
    assert found.equals(history.step_table(fitted(small, recipe, torch.float16, fitting)))
    assert fitting.progress.loss_scale == LossScale(lowered.factor, 1, 0)
    for one, other in zip(small.parameters(), large.parameters(), strict=True):
        assert torch.equal(one, other)
    exact = history.step_table(fitted(model(), recipe))
    assert found["loss"].to_numpy() == pytest.approx(exact["loss"].to_numpy(), rel=1e-2)
    assert found["gradient_norm"].to_numpy() == pytest.approx(exact["gradient_norm"].to_numpy(), rel=1e-2)


@pytest.mark.parametrize(("fast", "precision"), [(True, torch.float32), (False, torch.float32), (True, torch.float16)])
@pytest.mark.parametrize("dead_after", range(1, 6))
def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, dead_after, fast, precision, device):
    """Six steps, of which the checkpoint has the first `dead_after`; then a process with another random state.

    In float16, the first step lowers the loss scale, which the checkpoint has, too.
    """
    recipe = RECIPE.model_copy(update={"fast": fast})
    path = tmp_path / "checkpoint.safetensors"
    undisturbed, killed, resumed = (model(0.1, device) for _ in range(3))
    torch.manual_seed(8)
    whole, second = FromScale(2.0**34), FromScale(1.0, path)
    expected = fitted(undisturbed, recipe, precision, whole)

    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    real_step = loop.optimizer_step

    def dying_step(training, rows, progress):
        if progress.steps_done == dead_after:
            raise KilledError
        return real_step(training, rows, progress)

    torch.manual_seed(8)
    monkeypatch.setattr(loop, "optimizer_step", dying_step)
    with pytest.raises(KilledError):
        fitted(killed, recipe, precision, FromScale(2.0**34, path))
    monkeypatch.setattr(loop, "optimizer_step", real_step)
    assert checkpoint.read_progress(path).steps_done == dead_after

    torch.manual_seed(99)
    found = fitted(resumed, recipe, precision, second)
    for one, other in zip(resumed.parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert history.epoch_table(found).equals(history.epoch_table(expected))
    assert history.step_table(found).equals(history.step_table(expected))
    assert second.progress.loss_scale == whole.progress.loss_scale
    assert (whole.progress.loss_scale.overflows > 0) == (precision == torch.float16)


def test_the_model_is_itself_again_after_a_fault(monkeypatch):
    broken = model()
    before = {name: weight.shape for name, weight in broken.named_parameters()}
    monkeypatch.setattr(loop, "validate", lambda *_: pytest.fail("stop"))
    with pytest.raises(pytest.fail.Exception):
        fitted(broken)
    assert {name: weight.shape for name, weight in broken.named_parameters()} == before
    assert all(weight.dtype == torch.float32 for weight in broken.parameters())


def test_a_class_without_sentences_has_a_finite_weight():
    three_classes = BertForSequenceClassification(tiny.config(num_labels=3))
    recipe = RECIPE.model_copy(update={"class_weights": "balanced"})
    sentences = tiny.to_train_on(tiny.sentences(8))._replace(labels=np.array([0, 0, 0, 1, 0, 0, 0, 1]))
    splits = {"train": sentences, "validation": sentences}
    with loop.prepare(three_classes, splits, recipe, torch.float32, seed=5) as training:
        assert training.class_weights.tolist() == pytest.approx([8 / (3 * 6), 8 / (3 * 2), 8 / (3 * 1)])


@pytest.mark.parametrize("changed", [{}, {"fast": False}, {"micro_batch_tokens": 12}], ids=str)
def test_class_weights_are_those_of_torchs_loss(changed):
    """The first batch's loss, also where it is computed in parts: torch's own, of padded sentences."""
    table, reference = tiny.sentences(20), model()
    rows = np.random.default_rng([5, 1]).permutation(20)[:8]
    ids = nn.utils.rnn.pad_sequence([torch.tensor(table["input_ids"][row]) for row in rows], batch_first=True)
    labels = torch.tensor(table["label"].to_numpy()[rows])
    weights = torch.tensor([20 / (2 * count) for count in np.bincount(table["label"])], dtype=torch.float32)
    logits = reference(input_ids=ids, attention_mask=(ids != 0).long()).logits
    assert weights[0] != weights[1]
    epochs = fitted(model(), RECIPE.model_copy(update={"class_weights": "balanced", "max_steps": 1} | changed))
    assert epochs[0].steps[0].loss == pytest.approx(cross_entropy(logits, labels, weights).item(), rel=1e-5)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("fast", [True, False])
def test_frozen_layers_keep_their_weights_and_the_others_train_as_ever(fast, weight_decay):
    """Against the loop on padded sentences with the same weights frozen; the first step's loss is that without."""
    recipe = RECIPE.model_copy(update={"frozen_layers": 1, "fast": fast, "weight_decay": weight_decay})
    trained, start = model(), dict(model().named_parameters())
    epochs = fitted(trained, recipe)
    frozen = [name for name in start if name.startswith(("bert.embeddings.", "bert.encoder.layer.0."))]
    assert len(frozen) == 5 + 16
    for name, weights in trained.named_parameters():
        assert torch.equal(weights, start[name]) == (name in frozen), name
    plain = fitted(model(), recipe.model_copy(update={"fast": False}))
    losses, expected = (history.step_table(of)["loss"].to_numpy() for of in (epochs, plain))
    assert losses == pytest.approx(expected, rel=1e-4)
    everything = fitted(model(), RECIPE.model_copy(update={"fast": fast}))
    assert losses[0] == pytest.approx(everything[0].steps[0].loss)
    assert losses[-1] != pytest.approx(everything[-1].steps[-1].loss, rel=1e-3)
