"""The tutorial's training: AdamW, a learning rate that falls linearly to zero, clipped gradients."""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from cola import classifier, encoding, progress, scoring
from cola.errors import UserError
from cola.params import Train


class Step(NamedTuple):
    step: int  # from 1
    loss: float  # mean over the batch's sentences
    learning_rate: float
    gradient_norm: float  # before clipping


class Epoch(NamedTuple):
    epoch: int  # from 1
    training_loss: float  # mean over the batches, each as the model was when it met the batch
    validation_loss: float  # mean over the sentences
    validation_accuracy: float
    validation_mcc: float
    training_seconds: float
    validation_seconds: float
    sentences: int  # trained on in this epoch
    tokens: int  # in them, padding not counted
    steps: list[Step]

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}: training loss {self.training_loss:.3f}, validation loss {self.validation_loss:.3f}, "
            f"validation MCC {self.validation_mcc:.3f}, {self.training_seconds:.0f} s"
        )


def linear_decay(step: int, total_steps: int) -> float:
    """The share of the learning rate that step (from 0) takes: 1 at the first, 1/total_steps at the last."""
    return 1 - step / total_steps


def fit(
    model: PreTrainedModel, training: pd.DataFrame, validation: pd.DataFrame, recipe: Train, seed: int
) -> Iterator[Epoch]:
    """Train `model` in place, on the device it is on, and yield a record of each epoch.

    Both tables have the columns label (0 or 1) and input_ids (the token ids of a sentence). The seed fixes the order of
    the sentences; dropout draws from PyTorch's random state. With recipe.max_steps, the schedule is that of the whole
    run, and the run ends early. Raises UserError where a loss is not finite.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        eps=recipe.adam_epsilon,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    device = next(model.parameters()).device
    input_ids = training["input_ids"].to_list()
    labels = _labels(training).to(device)
    batches_per_epoch = len(encoding.batches(np.arange(len(labels)), recipe.batch_size))
    total_steps = recipe.epochs * batches_per_epoch
    last_step = min(total_steps, recipe.max_steps or total_steps)
    step = 0
    for epoch in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        order = encoding.shuffled(len(labels), seed, epoch)
        batches = encoding.batches(order, recipe.batch_size)[: last_step - step]
        sentences = sum(len(rows) for rows in batches)
        steps: list[Step] = []
        tokens = 0
        model.train()
        with progress.bar(sentences, "sentences", f"epoch {epoch}/{recipe.epochs}") as bar:
            for rows in batches:
                batch = encoding.pad([input_ids[row] for row in rows], model.config.pad_token_id)
                learning_rate = recipe.learning_rate * linear_decay(step, total_steps)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate

                loss = cross_entropy(classifier.logits(model, batch), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
                optimizer.step()

                step += 1
                steps.append(Step(step, loss.item(), learning_rate, norm.item()))
                if not np.isfinite(steps[-1].loss):
                    raise UserError(f"the loss of step {step} is {steps[-1].loss}; try a lower train.learning_rate")
                tokens += int(batch.attention_mask.sum())
                bar.set_postfix(loss=f"{steps[-1].loss:.3f}", refresh=False)
                bar.update(len(rows))
        trained = time.perf_counter()
        expected = _labels(validation)
        logits = torch.from_numpy(classifier.predict(model, validation["input_ids"].to_list(), recipe.batch_size))
        predicted = logits.argmax(dim=1)
        yield Epoch(
            epoch=epoch,
            training_loss=float(np.mean([record.loss for record in steps])),
            validation_loss=cross_entropy(logits, expected).item(),
            validation_accuracy=(predicted == expected).double().mean().item(),
            validation_mcc=scoring.mcc(expected.numpy(), predicted.numpy()),
            training_seconds=trained - started,
            validation_seconds=time.perf_counter() - trained,
            sentences=sentences,
            tokens=tokens,
            steps=steps,
        )
        if step == last_step:
            return


def history(epochs: Sequence[Epoch]) -> pd.DataFrame:
    """A row per epoch, without what differs from run to run."""
    columns = ["epoch", "training_loss", "validation_loss", "validation_accuracy", "validation_mcc"]
    return pd.DataFrame(epochs)[columns]


def steps(epochs: Sequence[Epoch]) -> pd.DataFrame:
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


def _labels(table: pd.DataFrame) -> torch.Tensor:
    return torch.from_numpy(table["label"].to_numpy(np.int64))
