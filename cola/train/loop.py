"""The tutorial's training: AdamW, a learning rate that falls linearly to zero, clipped gradients."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from cola.core import progress
from cola.core.errors import UserError
from cola.core.params import Train
from cola.data.ragged import RaggedArray, Sentences
from cola.model import batching, classifier, hardware, metrics, prediction
from cola.train import checkpoint, distributed, speedups

KEEP_EVERY = 300.0  # seconds; also at the end of each epoch


class MicroBatch(NamedTuple):
    """What of a batch is computed at once: all of it, or less where there are several processes or micro-batches."""

    batch: batching.Padded | batching.Packed
    labels: Tensor  # (sentences,) int64
    weight: float  # its share of the whole batch's sentences


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
    model: PreTrainedModel,
    training: Sentences,
    validation: Sentences,
    recipe: Train,
    precision: torch.dtype,
    seed: int,
    kept: Path | None = None,
) -> Iterator[Epoch]:
    """Train `model` in place, on the device it is on, and yield a record of each epoch.

    The seed fixes the order of the sentences; dropout draws from PyTorch's random state. With recipe.max_steps, the
    schedule is that of the whole run, and the run ends early; so with recipe.early_stopping, after which the model is
    the best epoch's. Where a checkpoint is `kept`, training goes on from there, as if it had never stopped. Of several
    processes, which must all call this, each computes its share of every batch, and each yields the same. Raises
    UserError where a loss or a gradient is not finite.
    """
    if distributed.rank():
        hardware.fix_seed(int(np.random.SeedSequence([seed, distributed.rank()]).generate_state(1)[0]))
    input_ids = [RaggedArray.from_rows(each.input_ids) for each in (training, validation)]
    labels = [torch.tensor(each.labels) for each in (training, validation)]
    packed = recipe.fast and classifier.packable(model)
    if recipe.fast and not packed:
        print(f"{model.config.model_type} is trained the plain way, on padded sentences: train.fast is made for BERT")
    with (
        speedups.fast_training(model, input_ids, precision, recipe.weight_decay)
        if packed
        else nullcontext((input_ids, list(model.parameters())))
    ) as ((train, held_out), weights):
        optimizer = torch.optim.AdamW(
            weights,
            lr=recipe.learning_rate,
            eps=recipe.adam_epsilon,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        per_epoch = len(batching.split_into_batches(np.arange(len(train)), recipe.batch_size))
        total_steps = recipe.epochs * per_epoch
        last_step = min(total_steps, recipe.max_steps or total_steps)
        best, record = checkpoint.load(kept, optimizer) if kept else ([], None)  # best: weights
        epochs, steps, seconds = _record(record)
        yield from epochs
        for epoch in range(len(epochs) + 1, recipe.epochs + 1):
            started = saved = time.perf_counter()
            order = batching.shuffled_order(len(train), seed, epoch)
            batches = batching.split_into_batches(order, recipe.batch_size)[: last_step - per_epoch * (epoch - 1)]
            model.train()
            with progress.bar(len(order), "sentences", f"epoch {epoch}/{recipe.epochs}") as bar:
                bar.update(sum(map(len, batches[: len(steps)])))
                for rows in batches[len(steps) :]:
                    done = per_epoch * (epoch - 1) + len(steps)
                    for group in optimizer.param_groups:
                        group["lr"] = recipe.learning_rate * linear_decay(done, total_steps)
                    share = micro_batches(model, train, labels[0], rows, recipe.micro_batch_tokens, packed)
                    loss, norm = optimizer_step(model, share, optimizer, recipe.max_grad_norm, precision)
                    if not math.isfinite(loss) or not math.isfinite(norm):
                        raise UserError(
                            f"step {done + 1} went wrong (loss {loss}, norm of the gradient {norm}): "
                            "lower train.learning_rate"
                        )
                    steps.append(Step(done + 1, loss, group["lr"], norm))
                    bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                    bar.update(len(rows))
                    if kept and distributed.all_reduce_max(time.perf_counter() - saved, model.device) > KEEP_EVERY:
                        saved = time.perf_counter()
                        checkpoint.save(kept, optimizer, best, [epochs, steps, seconds + saved - started])
            trained = time.perf_counter()
            logits = _predict(model, held_out, precision, packed)
            epochs.append(
                Epoch(
                    epoch=epoch,
                    training_loss=float(np.mean([each.loss for each in steps])),
                    validation_loss=cross_entropy(logits, labels[1]).item(),
                    validation_accuracy=(logits.argmax(dim=1) == labels[1]).double().mean().item(),
                    validation_mcc=metrics.mcc(labels[1].numpy(), logits.argmax(dim=1).numpy()),
                    training_seconds=seconds + trained - started,
                    validation_seconds=time.perf_counter() - trained,
                    sentences=sum(map(len, batches)),
                    tokens=int(train.lengths[np.concatenate(batches)].sum()),
                    steps=steps,
                )
            )
            yield epochs[-1]
            if recipe.early_stopping and published_epoch(epochs, recipe) is epochs[-1]:
                best = [each.detach().clone() for each in weights]
            waited = epoch - published_epoch(epochs, recipe).epoch
            if steps[-1].step == last_step or (recipe.early_stopping and waited >= recipe.early_stopping):
                break
            steps, seconds = [], 0.0
            if kept:
                checkpoint.save(kept, optimizer, best, [epochs, steps, seconds])
        for each, of_the_best in zip(weights, best or weights, strict=True):
            each.data.copy_(of_the_best)


def published_epoch(epochs: Sequence[Epoch], recipe: Train) -> Epoch:
    """The epoch whose model `fit` leaves: the last; with early stopping, the first of the best validation MCC."""
    return max(epochs, key=lambda epoch: epoch.validation_mcc) if recipe.early_stopping else epochs[-1]


def steps_done(kept: Path) -> int:
    """After which step training would go on."""
    epochs, steps, _ = _record(checkpoint.read_record(kept))
    return sum(len(epoch.steps) for epoch in epochs) + len(steps)


def _record(kept: Any) -> tuple[list[Epoch], list[Step], float]:
    """What a checkpoint says of the training so far: epochs that ended; of the one that had not, steps and seconds."""
    epochs, steps, seconds = kept or ([], [], 0.0)
    ended = [Epoch._make([*fields, [Step(*each) for each in its_steps]]) for *fields, its_steps in epochs]
    return ended, [Step(*each) for each in steps], seconds


def micro_batches(
    model: PreTrainedModel,
    input_ids: Sequence[batching.TokenIds],
    labels: Tensor,
    rows: np.ndarray,
    tokens: int | None,
    packed: bool,
) -> Iterator[MicroBatch]:
    """This process's share of a batch, in parts of at most `tokens` tokens.

    A share without sentences is one that counts nothing: its gradients are 0.
    """
    share = rows[distributed.rank() :: distributed.world_size()]
    for part in batching.split_into_micro_batches(
        share if len(share) else rows[:1], input_ids, tokens, padded=not packed
    ):
        batch = classifier.collate(model, [input_ids[row] for row in part], packed)
        yield MicroBatch(batch, labels[part], len(part) / len(rows) if len(share) else 0.0)


def _predict(
    model: PreTrainedModel, input_ids: Sequence[batching.TokenIds], precision: torch.dtype, packed: bool
) -> Tensor:
    """Logits (sentences, classes) of all sentences, of which each process computes its share."""
    mine = slice(distributed.rank(), None, distributed.world_size())
    logits = torch.zeros(len(input_ids), len(classifier.label_names(model)), device=model.device)
    logits[mine] = torch.from_numpy(prediction.predict_logits(model, input_ids[mine], precision, padded=not packed)).to(
        logits
    )
    distributed.all_reduce_sum([logits])
    return logits.cpu()


def optimizer_step(
    model: PreTrainedModel,
    share: Iterable[MicroBatch],
    optimizer: torch.optim.AdamW,
    max_grad_norm: float,
    precision: torch.dtype,
) -> tuple[float, float]:
    """One step of the optimizer on one batch, of which this process computes its share.

    Returns (mean loss, norm of the gradient before clipping), of the whole batch.
    """
    model.zero_grad()
    losses = torch.zeros((), device=model.device)
    for batch, labels, weight in share:
        with hardware.autocast(model.device, precision):
            loss = cross_entropy(classifier.logits(model, batch), labels.to(model.device)) * weight
        loss.backward()
        losses += loss.detach()
    weights = optimizer.param_groups[0]["params"]
    gradients = [each.grad for each in weights if each.grad is not None]
    distributed.all_reduce_sum([losses, *gradients])
    norm = nn.utils.get_total_norm(gradients)
    # Clipping divides every gradient by the same number; the fused optimizer does that as it reads them, which spares
    # a pass over the memory. As torch's clip_grad_norm_ has it, with its 1e-6.
    optimizer.grad_scale = ((norm + 1e-6) / max_grad_norm).clamp(min=1.0)  # type: ignore[attr-defined]
    optimizer.step()
    return losses.item(), norm.item()


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
