"""The tutorial's training: AdamW, a learning rate that falls linearly to zero, clipped gradients."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from cola.core import progress
from cola.core.errors import UserError
from cola.core.params import Train
from cola.data.ragged import RaggedArray, Sentences
from cola.model import batching, classifier, families, metrics, prediction
from cola.train import checkpoint, distributed, speedups
from cola.train.history import Epoch, Progress, Step, best_epoch

CHECKPOINT_SECONDS = 300.0  # between checkpoints; there is one at the end of most epochs, too


@dataclass(frozen=True)
class Training:
    """What one training works with. Its weights, and the optimizer's moments, change in place."""

    model: PreTrainedModel
    train: RaggedArray  # token ids, as the model has them
    labels: Tensor  # (sentences,) int64
    validation: RaggedArray
    validation_labels: Tensor
    optimizer: torch.optim.AdamW
    recipe: Train
    precision: torch.dtype
    packed: bool  # sentences are packed into rows, not padded
    seed: int
    checkpoint_path: Path | None

    @property
    def weights(self) -> list[nn.Parameter]:
        """The parameters that the optimizer trains."""
        weights: list[nn.Parameter] = self.optimizer.param_groups[0]["params"]
        return weights

    @cached_property
    def class_weights(self) -> Tensor | None:
        """(classes,), in the loss, on the model's device; None: each sentence weighs the same."""
        if not self.recipe.class_weights:
            return None
        return balanced(self.labels, len(classifier.label_names(self.model))).to(self.model.device)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.recipe.batch_size)

    @property
    def total_steps(self) -> int:
        """The steps that the learning rate's schedule counts on."""
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def last_step(self) -> int:
        return min(self.total_steps, self.recipe.max_steps or self.total_steps)


def fit(
    model: PreTrainedModel,
    train: Sentences,
    validation: Sentences,
    recipe: Train,
    precision: torch.dtype,
    seed: int,
    checkpoint_path: Path | None = None,
    on_epoch_end: Callable[[Epoch], None] = lambda _: None,
    on_step_end: Callable[[Step], None] = lambda _: None,
) -> list[Epoch]:
    """Train `model` in place, on its device, and return the record of every epoch.

    on_epoch_end is called with each record as soon as there is one, those of a checkpoint at once; on_step_end with
    each step that is taken. Until fit returns, the model is no one else's. The seed fixes the order of the sentences;
    dropout draws from PyTorch's random state. recipe.max_steps ends the training early, on the schedule of the whole
    one; so does recipe.early_stopping, which leaves the best epoch's weights. From a checkpoint the training goes on as
    if it had never stopped. Of several processes, all must call this: each computes its share of every batch and
    returns the same. Raises UserError where a loss is not finite.
    """
    if distributed.rank():  # dropout differs by process; rank 0 goes on with the random state that it has
        torch.manual_seed(int(np.random.SeedSequence([seed, distributed.rank()]).generate_state(1)[0]))
    packed = recipe.fast and families.supports(model)
    if recipe.fast and not packed:
        fast = ", ".join(families.FAMILIES)
        print(f"{model.config.model_type} is trained the plain way, on padded sentences; trained fast are {fast}")
    families.freeze(model, recipe.frozen_layers)
    input_ids = [RaggedArray.from_rows(sentences.input_ids) for sentences in (train, validation)]
    plain: AbstractContextManager[tuple[list[RaggedArray], list[nn.Parameter]]] = nullcontext(
        (input_ids, [weight for weight in model.parameters() if weight.requires_grad])
    )
    with (
        speedups.fast_training(model, input_ids, precision, recipe.weight_decay) if packed else plain as (
            (train_ids, validation_ids),
            weights,
        )
    ):
        training = Training(
            model=model,
            train=train_ids,
            labels=torch.tensor(train.labels),
            validation=validation_ids,
            validation_labels=torch.tensor(validation.labels),
            optimizer=torch.optim.AdamW(
                weights,
                lr=recipe.learning_rate,
                eps=recipe.adam_epsilon,
                weight_decay=recipe.weight_decay,
                fused=True,
            ),
            recipe=recipe,
            precision=precision,
            packed=packed,
            seed=seed,
            checkpoint_path=checkpoint_path,
        )
        return _fit(training, on_epoch_end, on_step_end)


def _fit(training: Training, on_epoch_end: Callable[[Epoch], None], on_step_end: Callable[[Step], None]) -> list[Epoch]:
    state, best_weights = Progress(), list[Tensor]()
    if training.checkpoint_path:
        state, best_weights = checkpoint.load(training.checkpoint_path, training.optimizer)
    for epoch in state.epochs:
        on_epoch_end(epoch)
    saved, cost = time.perf_counter(), 0.0  # of the last checkpoint at an epoch's end: its end, and the seconds it took
    while True:
        train_epoch(training, state, best_weights, on_step_end)
        state.end_epoch(validate(training, state))
        on_epoch_end(state.epochs[-1])
        if training.recipe.early_stopping and best_epoch(state.epochs) is state.epochs[-1]:
            best_weights = [weight.detach().clone() for weight in training.weights]
        if has_ended(state.epochs, training.last_step, training.recipe.early_stopping):
            break
        ended = time.perf_counter()
        if training.checkpoint_path and is_worth_a_checkpoint(ended - saved, cost, training.model.device):
            checkpoint.save(training.checkpoint_path, training.optimizer, state, best_weights)
            saved = time.perf_counter()
            cost = saved - ended
    for weight, best in zip(training.weights, best_weights or training.weights, strict=True):
        weight.data.copy_(best)
    return state.epochs


def train_epoch(
    training: Training, state: Progress, best_weights: Sequence[Tensor], on_step_end: Callable[[Step], None]
) -> None:
    """Take the steps of the current epoch that `state` does not have yet, and add them to it."""
    recipe, number = training.recipe, len(state.epochs) + 1
    batches = epoch_batches(training, number)
    started = saved = time.perf_counter()
    seconds_before = state.seconds
    training.model.train()
    with progress.bar(len(training.train), "sentences", f"epoch {number}/{recipe.epochs}") as bar:
        bar.update(sum(map(len, batches[: len(state.steps)])))
        for rows in batches[len(state.steps) :]:
            step = state.steps_done + 1
            learning_rate = recipe.learning_rate * linear_decay(step - 1, training.total_steps)
            for group in training.optimizer.param_groups:
                group["lr"] = learning_rate
            loss, norm = optimizer_step(
                training.model,
                micro_batches(
                    training.model,
                    training.train,
                    training.labels,
                    rows,
                    recipe.micro_batch_tokens,
                    training.packed,
                    training.class_weights,
                ),
                training.optimizer,
                recipe.max_grad_norm,
                training.precision,
            )
            _check_finite(step, loss, norm)
            state.steps.append(Step(step, loss, learning_rate, norm))
            on_step_end(state.steps[-1])
            state.seconds = seconds_before + time.perf_counter() - started
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update(len(rows))
            if training.checkpoint_path and checkpoint_is_due(step, time.perf_counter() - saved, training.model.device):
                saved = time.perf_counter()
                checkpoint.save(training.checkpoint_path, training.optimizer, state, best_weights)


def epoch_batches(training: Training, epoch: int) -> list[np.ndarray]:
    """The rows of each batch of an epoch (from 1), up to the training's last step."""
    order = batching.shuffled_order(len(training.train), training.seed, epoch)
    batches = batching.split_into_batches(order, training.recipe.batch_size)
    return batches[: training.last_step - training.steps_per_epoch * (epoch - 1)]


def linear_decay(step: int, total_steps: int) -> float:
    """The factor of the learning rate at a step (from 0): 1 at the first, 1/total_steps at the last."""
    return 1 - step / total_steps


def balanced(labels: Tensor, classes: int) -> Tensor:
    """Weights (classes,) with which every class weighs as much as another, as scikit-learn's "balanced".

    `labels` are those of the training sentences, (sentences,) int64.
    """
    return len(labels) / (classes * torch.bincount(labels, minlength=classes).clamp(min=1))


@dataclass(frozen=True)
class MicroBatch:
    """Sentences that are computed at once: this process's share of a batch, or less where memory is bounded."""

    inputs: batching.Padded | batching.Packed
    labels: Tensor  # (sentences,) int64
    weight: float  # its part of the whole batch's sentences, or of their classes' weights, 0 to 1
    class_weights: Tensor | None = None  # (classes,), on the model's device


def micro_batches(
    model: PreTrainedModel,
    input_ids: Sequence[batching.TokenIds],
    labels: Tensor,
    rows: np.ndarray,
    tokens: int | None,
    packed: bool,
    class_weights: Tensor | None = None,
) -> Iterator[MicroBatch]:
    """This process's share of the batch `rows`, in micro-batches of at most `tokens` tokens, if that is not None.

    A share without sentences is one sentence of weight 0: its gradients are 0, and every process has gradients.
    """

    def weight(rows: np.ndarray) -> float:
        return len(rows) if class_weights is None else class_weights.cpu()[labels[rows]].sum().item()

    whole = weight(rows)
    share = rows[distributed.rank() :: distributed.world_size()]
    for part in batching.split_into_micro_batches(
        share if len(share) else rows[:1], input_ids, tokens, padded=not packed
    ):
        inputs = classifier.collate(model, [input_ids[row] for row in part], packed)
        yield MicroBatch(inputs, labels[part], weight(part) / whole if len(share) else 0.0, class_weights)


def optimizer_step(
    model: PreTrainedModel,
    share: Iterable[MicroBatch],
    optimizer: torch.optim.AdamW,
    max_grad_norm: float,
    precision: torch.dtype,
) -> tuple[float, float]:
    """One step of the optimizer on one batch, of which this process computes `share`.

    Returns (mean loss, norm of the gradient before clipping), both of the whole batch.
    """
    optimizer.zero_grad()
    total_loss = torch.zeros((), device=model.device)
    for micro_batch in share:
        logits = classifier.logits(model, micro_batch.inputs, precision)
        loss = cross_entropy(logits, micro_batch.labels.to(model.device), micro_batch.class_weights)
        loss = loss * micro_batch.weight
        loss.backward()
        total_loss += loss.detach()
    gradients = [weight.grad for weight in optimizer.param_groups[0]["params"] if weight.grad is not None]
    distributed.all_reduce_sum([total_loss, *gradients])
    norm = total_norm(gradients)
    # Clipping divides every gradient by the same number; the fused optimizer does that as it reads them, which spares
    # a pass over the memory. The 1e-6 is that of torch's clip_grad_norm_.
    optimizer.grad_scale = ((norm + 1e-6) / max_grad_norm).clamp(min=1.0)  # type: ignore[attr-defined]
    optimizer.step()
    return total_loss.item(), norm.item()


def total_norm(gradients: Iterable[torch.Tensor]) -> torch.Tensor:
    """The Euclidean norm of all of them together.

    It is that of the norms of rows: a processor sums in float32, and of BERT's 110 million numbers in one row the norm
    comes out 1% too low.
    """
    norms = []
    for gradient in gradients:
        whole = gradient.numel() // 4096 * 4096
        rows, rest = gradient.flatten().split([whole, gradient.numel() - whole])
        norms += [torch.linalg.vector_norm(rows.view(-1, 4096), dim=1), torch.linalg.vector_norm(rest, keepdim=True)]
    return torch.linalg.vector_norm(torch.cat(norms))


def _check_finite(step: int, loss: float, norm: float) -> None:
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise UserError(f"step {step} went wrong (loss {loss}, norm of the gradient {norm}): lower train.learning_rate")


def is_worth_a_checkpoint(seconds: float, cost: float, device: torch.device) -> bool:
    """Whether to save at an epoch's end, so many seconds after the last checkpoint, which took `cost` seconds.

    Where epochs are short and the model is large, checkpoints take a twentieth of the time. All processes agree.
    """
    return distributed.all_reduce_max(float(cost < 0.1 or seconds > 20 * cost), device) > 0


def checkpoint_is_due(step: int, seconds: float, device: torch.device) -> bool:
    """Whether to save after this step, so many seconds after the last checkpoint.

    Several processes must agree on it, which costs them a synchronization: they ask each other at every 50th step.
    """
    if distributed.world_size() > 1 and step % 50:
        return False
    return distributed.all_reduce_max(seconds, device) > CHECKPOINT_SECONDS


def validate(training: Training, state: Progress) -> Epoch:
    """The record of the epoch whose steps `state` has, with the figures of the validation sentences."""
    started, number = time.perf_counter(), len(state.epochs) + 1
    logits, labels = _validation_logits(training), training.validation_labels
    predicted = logits.argmax(dim=1)
    rows = np.concatenate(epoch_batches(training, number))
    return Epoch(
        epoch=number,
        training_loss=float(np.mean([step.loss for step in state.steps])),
        validation_loss=cross_entropy(logits, labels).item(),
        validation_accuracy=(predicted == labels).double().mean().item(),
        validation_mcc=metrics.mcc(labels.numpy(), predicted.numpy()),
        training_seconds=state.seconds,
        validation_seconds=time.perf_counter() - started,
        sentences=len(rows),
        tokens=int(training.train.lengths[rows].sum()),
        steps=state.steps,
    )


def _validation_logits(training: Training) -> Tensor:
    """Logits (sentences, classes) of the validation sentences, of which each process computes its share; on the CPU."""
    model, share = training.model, slice(distributed.rank(), None, distributed.world_size())
    logits = torch.zeros(len(training.validation), len(classifier.label_names(model)), device=model.device)
    found = prediction.predict_logits(model, training.validation[share], training.precision, padded=not training.packed)
    logits[share] = torch.from_numpy(found).to(logits)
    distributed.all_reduce_sum([logits])
    return logits.cpu()


def has_ended(epochs: Sequence[Epoch], last_step: int, patience: int | None) -> bool:
    """Whether the training ends after these epochs: at its last step, or `patience` epochs after the best one."""
    if epochs[-1].steps[-1].step == last_step:
        return True
    return patience is not None and epochs[-1].epoch - best_epoch(epochs).epoch >= patience


def published_epoch(epochs: Sequence[Epoch], recipe: Train) -> Epoch:
    """The epoch whose weights `fit` leaves: the last; with early stopping, the best."""
    return best_epoch(epochs) if recipe.early_stopping else epochs[-1]
