"""The tutorial's training: AdamW, a learning rate that falls linearly to zero, clipped gradients."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from cola.core import progress as progress_bar
from cola.core.errors import UserError
from cola.core.params import Train
from cola.data.ragged import Sentences
from cola.model import batching, classifier, families, metrics, prediction
from cola.train import distributed, speedups
from cola.train.checkpoint import Checkpointer
from cola.train.graphs import Recorded
from cola.train.history import Epoch, Progress, Step, has_ended, select_best


class MicroBatch(NamedTuple):
    """A part of a batch, computed at once."""

    batch: batching.Padded | batching.Packed
    labels: Tensor  # (sentences,) int64
    weight: float  # of its mean loss, in the mean loss of the whole batch


@dataclass(frozen=True)
class Training:
    """A training's model, data and settings. The model's weights and the optimizer's moments change in place."""

    model: PreTrainedModel
    train: Sentences
    validation: Sentences
    recipe: Train
    precision: torch.dtype
    seed: int
    packed: bool  # whether sentences are packed into rows instead of padded
    weights: list[nn.Parameter]  # all that the optimizer trains
    optimizer: torch.optim.AdamW

    @cached_property
    def class_weights(self) -> Tensor | None:
        """The classes' weights in the loss, (classes,), on the model's device; None if all sentences weigh the same.

        "balanced" is scikit-learn's: all classes have the same total weight.
        """
        if not self.recipe.class_weights:
            return None
        labels, classes = torch.from_numpy(self.train.labels), len(classifier.read_label_names(self.model))
        counts = torch.bincount(labels, minlength=classes).clamp(min=1)  # a class may have no training sentences
        return (len(labels) / (classes * counts)).to(self.model.device)

    @cached_property
    def recorded_step(self) -> Recorded | None:
        """compute_step of a single micro-batch as a CUDA graph. Its arguments are tensors, the micro-batch's first."""
        if not self.packed or self.model.device.type != "cuda" or distributed.world_size() > 1:
            return None

        training = replace(self)  # a cycle of references would keep the graphs in memory

        def compute(*tensors: Tensor) -> tuple[Tensor, Tensor]:
            *batch, labels, learning_rate, scale = tensors
            micro_batch = MicroBatch(batching.Packed(*batch), labels, 1.0)
            return compute_step(training, [micro_batch], learning_rate, scale)

        return Recorded(compute, self.model.device)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train.labels) / self.recipe.batch_size)

    @property
    def total_steps(self) -> int:
        """The steps over which the learning rate falls to zero."""
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def last_step(self) -> int:
        return min(self.total_steps, self.recipe.max_steps or self.total_steps)


@contextmanager
def prepare(
    model: PreTrainedModel, sentences: Mapping[str, Sentences], recipe: Train, precision: torch.dtype, seed: int
) -> Iterator[Training]:
    """Yield a training of `model`, in place, on its device. `sentences` has the splits train and validation.

    The seed determines the order of the sentences; dropout uses PyTorch's random state. Within the block, use the model
    only through the training: its weights and token ids may be rearranged (cola/train/speedups.py).
    """
    if distributed.rank():  # rank 0 keeps its random state; the other ranks need different dropout
        torch.manual_seed(int(np.random.SeedSequence([seed, distributed.rank()]).generate_state(1)[0]))
    families.freeze(model, recipe.frozen_layers)
    with speedups.prepare(model, sentences, recipe, precision) as prepared:
        optimizer = torch.optim.AdamW(
            prepared.parameters,
            lr=recipe.learning_rate,
            eps=recipe.adam_epsilon,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=model.device.type == "cuda",  # by a CUDA graph
        )
        train, validation = prepared.sentences["train"], prepared.sentences["validation"]
        packed, weights = prepared.packed, prepared.parameters
        yield Training(model, train, validation, recipe, precision, seed, packed, weights, optimizer)


def fit(
    training: Training,
    checkpointer: Checkpointer,
    on_step: Callable[[Step], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> list[Epoch]:
    """Train, and return the record of every epoch.

    From a checkpoint the training continues as if it had never stopped. on_step is called with every step taken,
    on_epoch with every epoch, including the checkpoint's. recipe.max_steps ends the training early, without a change of
    the learning rate's schedule; so does recipe.early_stopping, which leaves the best epoch's weights. All processes
    must call this. Each process computes a share of every batch, and all return the same records. Raises UserError if a
    loss, a gradient or a weight is not finite.
    """
    progress = checkpointer.load(training.optimizer)
    for epoch in progress.epochs:
        on_epoch(epoch)
    patience = training.recipe.early_stopping
    while True:
        for step in take_steps(training, progress):
            on_step(step)
            checkpointer.after_step(training.optimizer, progress)
        progress.end_epoch(validate(training, progress))
        on_epoch(progress.epochs[-1])
        if patience and select_best(progress.epochs) is progress.epochs[-1]:
            progress.best_weights = [weight.detach().clone() for weight in training.weights]
        if has_ended(progress.epochs, training.last_step, patience):
            break
        checkpointer.after_epoch(training.optimizer, progress)
    for weight, best in zip(training.weights, progress.best_weights or training.weights, strict=True):
        weight.data.copy_(best)
    largest = max(torch.linalg.vector_norm(weight.detach(), torch.inf).item() for weight in training.weights)
    require_finite(training, "the last step", {"largest weight": largest})
    if overflows := progress.loss_scale.overflows:
        print(f"float16: gradients overflowed {overflows} times; these steps were computed again with half the scale")
    return progress.epochs


def take_steps(training: Training, progress: Progress) -> Iterator[Step]:
    """Take the current epoch's steps that `progress` does not have yet; add each of them, and yield it."""
    epoch = len(progress.epochs) + 1
    batches = split_epoch(training, epoch)
    training.model.train()
    with progress_bar.make_bar(
        len(training.train.labels), "sentences", f"epoch {epoch}/{training.recipe.epochs}"
    ) as bar:
        bar.update(sum(map(len, batches[: len(progress.steps)])))
        started = time.perf_counter() - progress.seconds
        for rows in batches[len(progress.steps) :]:
            step = take_optimizer_step(training, rows, progress)
            progress.steps.append(step)
            progress.seconds = time.perf_counter() - started
            bar.set_postfix(loss=f"{step.loss:.3f}", refresh=False)
            bar.update(len(rows))
            yield step


def split_epoch(training: Training, epoch: int) -> list[np.ndarray]:
    """The rows of each batch of an epoch (from 1), up to the training's last step."""
    order = batching.shuffle(len(training.train.labels), training.seed, epoch)
    batches = batching.split_into_batches(order, training.recipe.batch_size)
    return batches[: training.last_step - training.steps_per_epoch * (epoch - 1)]


def take_optimizer_step(training: Training, rows: np.ndarray, progress: Progress) -> Step:
    """Take the tutorial's step on the batch `rows`: forward, backward, clipping, AdamW.

    Returns the loss and the norm of the whole batch. If float16's gradients overflow, no weight changes, and the batch
    is computed again with half the loss scale. Raises UserError if loss or norm is not finite.
    """
    number = progress.steps_done + 1
    learning_rate = training.recipe.learning_rate * decay_linearly(number - 1, training.total_steps)
    scale = progress.loss_scale.factor if training.precision == torch.float16 else 1.0
    micro_batches = cut(training, rows)
    if training.recorded_step and len(micro_batches) == 1:
        batch, labels, _ = micro_batches[0]
        figures = training.recorded_step(*batch, labels, torch.tensor(learning_rate), torch.tensor(scale))
    else:
        figures = compute_step(training, micro_batches, learning_rate, scale)
    loss, norm = (figure.item() for figure in figures)
    if training.precision == torch.float16:
        overflow = math.isfinite(loss) and not math.isfinite(norm) and scale > 1
        progress.loss_scale = progress.loss_scale.after(overflow)
        if overflow:
            return take_optimizer_step(training, rows, progress)
    require_finite(training, f"step {number}", {"loss": loss, "norm of the gradient": norm})
    return Step(number, loss, learning_rate, norm)


def decay_linearly(step: int, steps: int) -> float:
    """The learning rate's factor at a step (from 0): 1 at the first, 1/steps at the last."""
    return 1 - step / steps


def cut(training: Training, rows: np.ndarray) -> list[MicroBatch]:
    """Cut this process's share of the batch `rows` into micro-batches of at most recipe.micro_batch_tokens tokens."""
    sentences, tokens = training.train, training.recipe.micro_batch_tokens
    share = rows[distributed.rank() :: distributed.world_size()]
    # Every process must have gradients: with an empty share they are 0, from a sentence of weight 0.
    parts = share if len(share) else rows[:1]
    few_shapes = training.recorded_step is not None
    micro_batches = []
    for part in batching.split_into_micro_batches(parts, sentences.input_ids, tokens, padded=not training.packed):
        input_ids = [sentences.input_ids[row] for row in part]
        batch = classifier.collate(training.model, input_ids, training.packed, few_shapes)
        weight = weigh(training, part) / weigh(training, rows) if len(share) else 0.0
        micro_batches.append(MicroBatch(batch, torch.from_numpy(sentences.labels[part]), weight))
    return micro_batches


def compute_step(
    training: Training, micro_batches: Sequence[MicroBatch], learning_rate: float | Tensor, scale: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Update the weights, unless a gradient is not finite. Returns the batch's loss and its gradient's norm.

    `scale` multiplies the loss in the backward pass only. Nothing here waits for a GPU: it may be recorded.
    """
    optimizer: Any = training.optimizer
    optimizer.param_groups[0]["lr"] = learning_rate
    optimizer.zero_grad()
    loss = backward(training, micro_batches, scale)
    gradients = [weight.grad for weight in training.weights if weight.grad is not None]
    distributed.all_reduce_sum([loss, *gradients])
    norm = compute_norm(gradients) / scale
    # Clipping divides all gradients by the same number. The fused optimizer does this as it reads them, which saves a
    # pass over the memory. The 1e-6 is from torch's clip_grad_norm_.
    optimizer.grad_scale = ((norm + 1e-6) / training.recipe.max_grad_norm).clamp(min=1.0) * scale
    optimizer.found_inf = (~norm.isfinite()).float()  # 1: the fused optimizer changes nothing
    optimizer.step()
    return loss, norm


def backward(training: Training, micro_batches: Sequence[MicroBatch], scale: float | Tensor) -> Tensor:
    """Compute the gradients, times `scale`, of this process's share of a batch. Returns its part of the mean loss."""
    model = training.model
    total_loss = torch.zeros((), device=model.device)
    for batch, labels, weight in micro_batches:
        logits = classifier.compute_logits(model, batch, training.precision)
        loss = cross_entropy(logits, labels.to(model.device), training.class_weights) * weight
        (loss * scale).backward()
        total_loss += loss.detach()
    return total_loss


def weigh(training: Training, rows: np.ndarray) -> float:
    """The number of sentences; with class weights, the sum of their classes' weights."""
    if training.class_weights is None:
        return len(rows)
    return training.class_weights.cpu()[training.train.labels[rows]].sum().item()


def compute_norm(gradients: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients together, computed as the norm of the norms of short rows.

    A processor sums a row in float32: with BERT's 110 million numbers in one row, the norm would be 1% too low.
    """
    norms = []
    for gradient in gradients:
        rest = gradient.numel() % 4096
        rows, last = gradient.flatten().split([gradient.numel() - rest, rest])
        norms += [torch.linalg.vector_norm(rows.view(-1, 4096), dim=1), torch.linalg.vector_norm(last, keepdim=True)]
    return torch.linalg.vector_norm(torch.cat(norms))


def validate(training: Training, progress: Progress) -> Epoch:
    """The record of the epoch whose steps `progress` has, with the validation sentences' figures.

    Raises UserError if the validation loss is not finite. Prints a line if it is far above the loss of guessing.
    """
    started, number = time.perf_counter(), len(progress.epochs) + 1
    logits, labels = predict_validation(training), torch.from_numpy(training.validation.labels)
    predicted = logits.argmax(dim=1)
    loss, guessing = cross_entropy(logits, labels).item(), math.log(logits.shape[1])
    require_finite(training, f"epoch {number}", {"validation loss": loss})
    if loss > 10 * guessing:
        figures = f"validation loss {loss:.3g}, of guessing {guessing:.3g}"
        print(f"epoch {number} diverged ({figures}): lower train.learning_rate")
    rows = np.concatenate(split_epoch(training, number))
    return Epoch(
        epoch=number,
        training_loss=float(np.mean([step.loss for step in progress.steps])),
        validation_loss=loss,
        validation_accuracy=(predicted == labels).double().mean().item(),
        validation_mcc=metrics.compute_mcc(labels.numpy(), predicted.numpy()),
        training_seconds=progress.seconds,
        validation_seconds=time.perf_counter() - started,
        sentences=len(rows),
        tokens=int(training.train.input_ids.lengths[rows].sum()),
        steps=progress.steps,
    )


def predict_validation(training: Training) -> Tensor:
    """The validation sentences' logits, (sentences, classes), on the CPU. Each process computes a share of them."""
    model, input_ids = training.model, training.validation.input_ids
    share = slice(distributed.rank(), None, distributed.world_size())
    tokens, padded = training.recipe.micro_batch_tokens, not training.packed
    logits = torch.zeros(len(input_ids), len(classifier.read_label_names(model)), device=model.device)
    predicted = prediction.predict_logits(
        model, input_ids[share], training.precision, padded=padded, batch_tokens=tokens
    )
    logits[share] = torch.from_numpy(predicted).to(logits)
    distributed.all_reduce_sum([logits])
    return logits.cpu()


def require_finite(training: Training, moment: str, figures: Mapping[str, float]) -> None:
    """Raise UserError, with the `moment` of the training and all figures, if a figure is not finite."""
    if not all(map(math.isfinite, figures.values())):
        shown = ", ".join(f"{name} {figure}" for name, figure in figures.items())
        remedy = ", or set precision to float32" if training.precision == torch.float16 else ""
        raise UserError(f"{moment} went wrong ({shown}): lower train.learning_rate{remedy}")
