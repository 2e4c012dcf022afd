"""The tutorial's training: AdamW, a learning rate that falls linearly to zero, clipped gradients."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from cola.core import paths
from cola.core import progress as progress_bar
from cola.core.errors import UserError
from cola.core.params import Train
from cola.data.ragged import Sentences
from cola.model import batching, classifier, families, metrics, prediction
from cola.train import distributed, speedups
from cola.train.checkpoint import Checkpointer
from cola.train.history import Epoch, Progress, Step, has_ended, select_best


@dataclass(frozen=True)
class Training:
    """What one training works with. The model's weights and the optimizer's moments change in place."""

    model: PreTrainedModel
    train: Sentences
    validation: Sentences
    recipe: Train
    precision: torch.dtype
    seed: int
    packed: bool  # sentences are packed into rows, not padded
    optimizer: torch.optim.AdamW

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
        labels = torch.from_numpy(self.train.labels)
        return balance_classes(labels, len(classifier.label_names(self.model))).to(self.model.device)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train.labels) / self.recipe.batch_size)

    @property
    def total_steps(self) -> int:
        """The steps of the whole training, over which the learning rate falls to zero."""
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def last_step(self) -> int:
        return min(self.total_steps, self.recipe.max_steps or self.total_steps)


@contextmanager
def prepare(
    model: PreTrainedModel, sentences: Mapping[str, Sentences], recipe: Train, precision: torch.dtype, seed: int
) -> Iterator[Training]:
    """A training of `model`, in place, on its device; `sentences` are those of train and validation.

    The seed fixes the order of the sentences; dropout draws from PyTorch's random state. Do not use the model in
    another way within the block: it may have other weights and token ids there (cola/train/speedups.py).
    """
    arrays = [array for split in sentences.values() for array in (*vars(split.input_ids).values(), split.labels)]
    contents = {  # each machine reads its own files
        "seed or train of params.yaml": [repr((seed, recipe.model_dump(exclude={"processes"}))).encode()],
        "precision (auto depends on the machine)": [repr(precision).encode()],
        str(paths.TOKENIZED): (array.tobytes() for array in arrays),
        str(paths.PRETRAINED): (weights.detach().cpu().numpy().tobytes() for weights in model.parameters()),
    }
    distributed.require_same(contents, model.device)
    if distributed.rank():  # give each rank its own dropout; rank 0 keeps the current random state
        torch.manual_seed(int(np.random.SeedSequence([seed, distributed.rank()]).generate_state(1)[0]))
    families.freeze(model, recipe.frozen_layers)
    with speedups.prepare(model, sentences, recipe, precision) as prepared:
        optimizer = torch.optim.AdamW(
            prepared.parameters,
            lr=recipe.learning_rate,
            eps=recipe.adam_epsilon,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        train, validation = prepared.sentences["train"], prepared.sentences["validation"]
        yield Training(model, train, validation, recipe, precision, seed, prepared.packed, optimizer)


def fit(
    training: Training,
    checkpointer: Checkpointer,
    on_step: Callable[[Step], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> list[Epoch]:
    """Train, and return the record of every epoch.

    on_epoch is called with each record as soon as there is one, those of a checkpoint at once; on_step with each step
    that is taken. recipe.max_steps ends the training early, on the schedule of the whole one. So does
    recipe.early_stopping, which leaves the best epoch's weights. From a checkpoint the training goes on as if it had
    never stopped. Of several processes, all must call this: each computes its share of every batch and returns the
    same. Raises UserError where a loss is not finite.
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
    """Take the steps of the current epoch that `progress` does not have yet, add each to it, and yield it."""
    epoch = len(progress.epochs) + 1
    batches = epoch_batches(training, epoch)
    training.model.train()
    description = f"epoch {epoch}/{training.recipe.epochs}"
    with progress_bar.bar(len(training.train.labels), "sentences", description) as bar:
        bar.update(sum(map(len, batches[: len(progress.steps)])))
        started = time.perf_counter() - progress.seconds
        for rows in batches[len(progress.steps) :]:
            step = optimizer_step(training, rows, progress)
            progress.steps.append(step)
            progress.seconds = time.perf_counter() - started
            bar.set_postfix(loss=f"{step.loss:.3f}", refresh=False)
            bar.update(len(rows))
            yield step


def epoch_batches(training: Training, epoch: int) -> list[np.ndarray]:
    """The rows of each batch of an epoch (from 1), up to the training's last step."""
    order = batching.shuffled_order(len(training.train.labels), training.seed, epoch)
    batches = batching.split_into_batches(order, training.recipe.batch_size)
    return batches[: training.last_step - training.steps_per_epoch * (epoch - 1)]


def optimizer_step(training: Training, rows: np.ndarray, progress: Progress) -> Step:
    """The tutorial's step, on the batch `rows`: forward, backward, clipping, AdamW with a learning rate that falls.

    The loss and the norm are those of the whole batch, of which each process computes a share. Where float16's
    gradients overflow, no weight changes, and the batch is computed again with half the loss scale. Raises UserError
    where loss or norm is not finite.
    """
    number = progress.steps_done + 1
    learning_rate = training.recipe.learning_rate * linear_decay(number - 1, training.total_steps)
    training.optimizer.param_groups[0]["lr"] = learning_rate
    scale = progress.loss_scale.factor if training.precision == torch.float16 else 1.0
    loss, norm = update_weights(training, rows, scale)
    if training.precision == torch.float16:
        overflow = math.isfinite(loss) and not math.isfinite(norm) and scale > 1
        progress.loss_scale = progress.loss_scale.after(overflow)
        if overflow:
            return optimizer_step(training, rows, progress)
    require_finite(training, f"step {number}", {"loss": loss, "norm of the gradient": norm})
    return Step(number, loss, learning_rate, norm)


def update_weights(training: Training, rows: np.ndarray, scale: float) -> tuple[float, float]:
    """Update the weights by the gradients of `rows`, unless these are not finite. Returns loss and gradient's norm.

    The loss is multiplied by `scale` on its way back.
    """
    optimizer: Any = training.optimizer
    optimizer.zero_grad()
    total_loss = backward(training, rows, scale)
    gradients = [weight.grad for weight in training.weights if weight.grad is not None]
    distributed.all_reduce_sum([total_loss, *gradients])
    norm = total_norm(gradients) / scale
    # Clipping divides every gradient by the same number. The fused optimizer does that as it reads them, which spares a
    # pass over the memory. The 1e-6 is that of torch's clip_grad_norm_.
    optimizer.grad_scale = ((norm + 1e-6) / training.recipe.max_grad_norm).clamp(min=1.0) * scale
    optimizer.found_inf = (~norm.isfinite()).float()  # 1: the fused optimizer changes nothing
    optimizer.step()
    return total_loss.item(), norm.item()


def require_finite(training: Training, place: str, figures: Mapping[str, float]) -> None:
    """Raise UserError, with the `place` in the training and all figures, where a figure is not finite."""
    if not all(map(math.isfinite, figures.values())):
        shown = ", ".join(f"{name} {figure}" for name, figure in figures.items())
        remedy = ", or set precision to float32" if training.precision == torch.float16 else ""
        raise UserError(f"{place} went wrong ({shown}): lower train.learning_rate{remedy}")


def backward(training: Training, rows: np.ndarray, scale: float) -> Tensor:
    """Add up the gradients of this process's share of the batch `rows`, times `scale`.

    Returns this process's part of the batch's mean loss, without the scale.
    """
    model, sentences = training.model, training.train
    total_loss = torch.zeros((), device=model.device)
    for part, weight in micro_batches(training, rows):
        batch = classifier.collate(model, [sentences.input_ids[row] for row in part], training.packed)
        logits = classifier.logits(model, batch, training.precision)
        labels = torch.from_numpy(sentences.labels[part]).to(model.device)
        loss = cross_entropy(logits, labels, training.class_weights) * weight
        (loss * scale).backward()
        total_loss += loss.detach()
    return total_loss


def micro_batches(training: Training, rows: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """This process's share of the batch `rows`, in parts of at most recipe.micro_batch_tokens tokens.

    Yields the rows of each part, and its weight: its part of the batch's sentences, or of their classes' weights. A
    share without sentences is one sentence of weight 0: its gradients are 0, and every process has gradients.
    """
    share = rows[distributed.rank() :: distributed.world_size()]
    tokens, input_ids = training.recipe.micro_batch_tokens, training.train.input_ids
    parts = share if len(share) else rows[:1]
    for part in batching.split_into_micro_batches(parts, input_ids, tokens, padded=not training.packed):
        yield part, weigh(training, part) / weigh(training, rows) if len(share) else 0.0


def weigh(training: Training, rows: np.ndarray) -> float:
    """The number of sentences; with class weights, the sum of their classes' weights."""
    if training.class_weights is None:
        return len(rows)
    return training.class_weights.cpu()[training.train.labels[rows]].sum().item()


def balance_classes(labels: Tensor, classes: int) -> Tensor:
    """Weights (classes,) with which every class weighs as much as another, as scikit-learn's "balanced".

    `labels` are those of the training sentences, (sentences,) int64.
    """
    return len(labels) / (classes * torch.bincount(labels, minlength=classes).clamp(min=1))


def linear_decay(step: int, total_steps: int) -> float:
    """The factor of the learning rate at a step (from 0): 1 at the first, 1/total_steps at the last."""
    return 1 - step / total_steps


def total_norm(gradients: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all of them together.

    It is the norm of the norms of rows. A processor sums in float32: over BERT's 110 million numbers in one row, the
    norm comes out 1% too low.
    """
    norms = []
    for gradient in gradients:
        whole = gradient.numel() // 4096 * 4096
        rows, rest = gradient.flatten().split([whole, gradient.numel() - whole])
        norms += [torch.linalg.vector_norm(rows.view(-1, 4096), dim=1), torch.linalg.vector_norm(rest, keepdim=True)]
    return torch.linalg.vector_norm(torch.cat(norms))


def validate(training: Training, progress: Progress) -> Epoch:
    """The record of the epoch whose steps `progress` has, with the figures of the validation sentences.

    Raises UserError where their loss is not finite. Prints a line where it is far above that of guessing.
    """
    started, number = time.perf_counter(), len(progress.epochs) + 1
    logits, labels = predict_validation(training), torch.from_numpy(training.validation.labels)
    predicted = logits.argmax(dim=1)
    rows = np.concatenate(epoch_batches(training, number))
    loss, guessing = cross_entropy(logits, labels).item(), math.log(logits.shape[1])
    require_finite(training, f"epoch {number}", {"validation loss": loss})
    if loss > 10 * guessing:
        figures = f"validation loss {loss:.3g}, of guessing {guessing:.3g}"
        print(f"epoch {number} diverged ({figures}): lower train.learning_rate")
    return Epoch(
        epoch=number,
        training_loss=float(np.mean([step.loss for step in progress.steps])),
        validation_loss=loss,
        validation_accuracy=(predicted == labels).double().mean().item(),
        validation_mcc=metrics.mcc(labels.numpy(), predicted.numpy()),
        training_seconds=progress.seconds,
        validation_seconds=time.perf_counter() - started,
        sentences=len(rows),
        tokens=int(training.train.input_ids.lengths[rows].sum()),
        steps=progress.steps,
    )


def predict_validation(training: Training) -> Tensor:
    """Logits (sentences, classes) of the validation sentences, of which each process computes its share; on the CPU."""
    model, share = training.model, slice(distributed.rank(), None, distributed.world_size())
    input_ids = training.validation.input_ids
    logits = torch.zeros(len(input_ids), len(classifier.label_names(model)), device=model.device)
    predicted = prediction.predict_logits(
        model,
        input_ids[share],
        training.precision,
        padded=not training.packed,
        batch_tokens=training.recipe.micro_batch_tokens,
    )
    logits[share] = torch.from_numpy(predicted).to(logits)
    distributed.all_reduce_sum([logits])
    return logits.cpu()
