"""A step of the tutorial's training: AdamW, clipped gradients, a learning rate that falls linearly to zero."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from cola.core.errors import UserError
from cola.core.params import Train
from cola.data.tables import Sentences
from cola.model import batching, classifier
from cola.train import distributed
from cola.train.graphs import Recorded
from cola.train.history import Progress, Step


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


def require_finite(training: Training, moment: str, figures: Mapping[str, float]) -> None:
    """Raise UserError, with the `moment` of the training and all figures, if a figure is not finite."""
    if not all(map(math.isfinite, figures.values())):
        shown = ", ".join(f"{name} {figure}" for name, figure in figures.items())
        remedy = ", or set precision to float32" if training.precision == torch.float16 else ""
        raise UserError(f"{moment} went wrong ({shown}): lower train.learning_rate{remedy}")
