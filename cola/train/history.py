"""A training's record: its steps, epochs and progress, and the tables written from them."""

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
    training_loss: float  # mean over the batches, each with the weights before its step
    validation_loss: float  # mean over the sentences
    validation_accuracy: float
    validation_mcc: float
    training_seconds: float
    validation_seconds: float
    sentences: int  # trained on
    tokens: int  # of these sentences, without padding
    steps: list[Step]

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}: training loss {self.training_loss:.3f}, validation loss {self.validation_loss:.3f}, "
            f"validation MCC {self.validation_mcc:.3f}, {self.training_seconds:.0f} s"
        )


class LossScale(NamedTuple):
    """The loss's factor in float16, where small gradients would vanish. torch.amp.GradScaler has the same rule."""

    factor: float = 65536.0
    good_steps: int = 0  # since the factor changed
    overflows: int = 0  # in the whole training

    def after(self, overflow: bool) -> "LossScale":
        """The scale after another step: half after an overflow of the gradients, twice after 2,000 steps without."""
        if overflow:
            return LossScale(self.factor / 2, overflows=self.overflows + 1)
        if self.good_steps + 1 == 2000:
            return LossScale(self.factor * 2, overflows=self.overflows)
        return self._replace(good_steps=self.good_steps + 1)


@dataclass
class Progress:
    """A training's state, without the model and the optimizer."""

    epochs: list[Epoch] = field(default_factory=list)  # complete
    steps: list[Step] = field(default_factory=list)  # of the current epoch
    seconds: float = 0.0  # of these steps
    loss_scale: LossScale = field(default_factory=LossScale)  # used in float16 only
    best_weights: list[Tensor] = field(default_factory=list)  # of the best epoch; empty without early stopping

    @property
    def steps_done(self) -> int:
        return sum(len(epoch.steps) for epoch in self.epochs) + len(self.steps)

    def end_epoch(self, epoch: Epoch) -> None:
        """Add the current epoch's record, and begin the next epoch."""
        self.epochs.append(epoch)
        self.steps, self.seconds = [], 0.0


def has_ended(epochs: Sequence[Epoch], last_step: int, patience: int | None) -> bool:
    """Whether the training ends after these epochs: at its last step, or `patience` epochs after the best epoch."""
    if epochs[-1].steps[-1].step == last_step:
        return True
    return patience is not None and epochs[-1].epoch - select_best(epochs).epoch >= patience


def select_best(epochs: Sequence[Epoch]) -> Epoch:
    """The best epoch: the first with the highest validation MCC."""
    return max(epochs, key=lambda epoch: epoch.validation_mcc)


def select_epoch(epochs: Sequence[Epoch], recipe: Train) -> Epoch:
    """The epoch whose weights are published: the last epoch, or the best epoch with early stopping."""
    return select_best(epochs) if recipe.early_stopping else epochs[-1]


def tabulate_epochs(epochs: Sequence[Epoch]) -> pd.DataFrame:
    """A row per epoch: epoch, training_loss, validation_loss, validation_accuracy, validation_mcc."""
    columns = ["epoch", "training_loss", "validation_loss", "validation_accuracy", "validation_mcc"]
    return pd.DataFrame(epochs)[columns]


def tabulate_steps(epochs: Sequence[Epoch]) -> pd.DataFrame:
    """A row per step: step, loss, learning_rate, gradient_norm."""
    return pd.DataFrame([step for epoch in epochs for step in epoch.steps])


def compute_timings(epochs: Sequence[Epoch]) -> dict[str, float]:
    """The seconds that training and validation took, and the rates of training, without validation."""
    seconds = sum(epoch.training_seconds for epoch in epochs)
    return {
        "training_seconds": seconds,
        "validation_seconds": sum(epoch.validation_seconds for epoch in epochs),
        "sentences_per_second": sum(epoch.sentences for epoch in epochs) / seconds,
        "tokens_per_second": sum(epoch.tokens for epoch in epochs) / seconds,
    }
