"""The record of a training: its steps, its epochs, its progress, and the tables that are written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from cola.core.params import Train


class Step(NamedTuple):
    """One step of the optimizer."""

    step: int  # from 1, over the whole training
    loss: float  # mean over the batch's sentences
    learning_rate: float
    gradient_norm: float  # before clipping


class Epoch(NamedTuple):
    """One pass over the training sentences, and the validation after it."""

    epoch: int  # from 1
    training_loss: float  # mean over the batches, with the weights of the moment
    validation_loss: float  # mean over the sentences
    validation_accuracy: float
    validation_mcc: float
    training_seconds: float
    validation_seconds: float
    sentences: int  # trained on
    tokens: int  # in them, padding not counted
    steps: list[Step]

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}: training loss {self.training_loss:.3f}, validation loss {self.validation_loss:.3f}, "
            f"validation MCC {self.validation_mcc:.3f}, {self.training_seconds:.0f} s"
        )


class LossScale(NamedTuple):
    """What the loss is multiplied by in float16, where small gradients vanish: by the rule of torch.amp.GradScaler."""

    factor: float = 65536.0
    good_steps: int = 0  # since the factor changed
    overflows: int = 0  # of the whole training

    def after(self, overflow: bool) -> "LossScale":
        """The scale after one more step: half after an overflow of the gradients, twice after 2,000 steps without."""
        if overflow:
            return LossScale(self.factor / 2, overflows=self.overflows + 1)
        if self.good_steps + 1 == 2000:
            return LossScale(self.factor * 2, overflows=self.overflows)
        return self._replace(good_steps=self.good_steps + 1)


@dataclass
class Progress:
    """How far a training is."""

    epochs: list[Epoch] = field(default_factory=list)  # that have ended
    steps: list[Step] = field(default_factory=list)  # of the epoch that has not
    seconds: float = 0.0  # that these steps took
    loss_scale: LossScale = field(default_factory=LossScale)  # used in float16 only
    best_weights: list[Tensor] = field(default_factory=list)  # of the best epoch, with early stopping; else empty

    @property
    def steps_done(self) -> int:
        return sum(len(epoch.steps) for epoch in self.epochs) + len(self.steps)

    def end_epoch(self, epoch: Epoch) -> None:
        """Add an epoch that has ended, and begin the next one."""
        self.epochs.append(epoch)
        self.steps, self.seconds = [], 0.0


def has_ended(epochs: Sequence[Epoch], last_step: int, patience: int | None) -> bool:
    """Whether the training ends after these epochs: at its last step, or `patience` epochs after the best one."""
    if epochs[-1].steps[-1].step == last_step:
        return True
    return patience is not None and epochs[-1].epoch - select_best(epochs).epoch >= patience


def select_best(epochs: Sequence[Epoch]) -> Epoch:
    """The epoch with the highest validation MCC; of several, the first."""
    return max(epochs, key=lambda epoch: epoch.validation_mcc)


def select_epoch(epochs: Sequence[Epoch], recipe: Train) -> Epoch:
    """The epoch whose weights are published: the last; with early stopping, the best."""
    return select_best(epochs) if recipe.early_stopping else epochs[-1]


def epoch_table(epochs: Sequence[Epoch]) -> pd.DataFrame:
    """A row per epoch: epoch, training_loss, validation_loss, validation_accuracy, validation_mcc."""
    columns = ["epoch", "training_loss", "validation_loss", "validation_accuracy", "validation_mcc"]
    return pd.DataFrame(epochs)[columns]


def step_table(epochs: Sequence[Epoch]) -> pd.DataFrame:
    """A row per step: step, loss, learning_rate, gradient_norm."""
    return pd.DataFrame([step for epoch in epochs for step in epoch.steps])


def timings(epochs: Sequence[Epoch]) -> dict[str, float]:
    """How long the training took, in seconds, and how fast it was; the rates are of training alone."""
    seconds = sum(epoch.training_seconds for epoch in epochs)
    return {
        "training_seconds": seconds,
        "validation_seconds": sum(epoch.validation_seconds for epoch in epochs),
        "sentences_per_second": sum(epoch.sentences for epoch in epochs) / seconds,
        "tokens_per_second": sum(epoch.tokens for epoch in epochs) / seconds,
    }
