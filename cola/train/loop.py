"""The tutorial's training: epochs of optimizer steps, and a validation after each."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from cola.core import progress as progress_bar
from cola.core.params import Train
from cola.data.tables import Sentences
from cola.model import batching, classifier, families, metrics, prediction
from cola.train import distributed, speedups
from cola.train.checkpoint import Checkpointer
from cola.train.history import Epoch, Progress, Step, has_ended, select_best
from cola.train.optimizer_step import Training, require_finite, take_optimizer_step


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
    with speedups.prepare(model, sentences, recipe, precision) as (sentences, weights, packed):
        optimizer = torch.optim.AdamW(
            weights,
            lr=recipe.learning_rate,
            eps=recipe.adam_epsilon,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=model.device.type == "cuda",  # by a CUDA graph
        )
        train, validation = sentences["train"], sentences["validation"]
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
        tokens=sum(len(training.train.input_ids[row]) for row in rows),
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
