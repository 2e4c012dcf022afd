"""The tutorial's training loop, written from its description: the baseline of every proof and timing.

Sentences are padded to 64 tokens, all computation is in float32, attention is eager, and AdamW updates a tensor at a
time.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from cola.core.params import Train
from cola.data.tables import Sentences
from cola.model import batching

MAX_LENGTH = 64  # tokens


def fit(
    model: PreTrainedModel, sentences: Sentences, recipe: Train, seed: int, length: int = MAX_LENGTH
) -> Iterator[float]:
    """Train `model` in place, with sentences in the order of loop.fit; yield the loss of every step.

    Sentences are padded to `length` tokens, or to the longest sentence of their batch if that is longer.
    """
    epochs = [
        batching.split_into_batches(batching.shuffle(len(sentences.labels), seed, epoch), recipe.batch_size)
        for epoch in range(1, recipe.epochs + 1)
    ]
    optimizer, scheduler = build_optimizer(model, recipe, sum(map(len, epochs)))
    for batches in epochs:
        for rows in batches:
            model.train()
            input_ids, labels = [sentences.input_ids[row] for row in rows], torch.from_numpy(sentences.labels[rows])
            yield take_step(model, collate(input_ids, labels, length), optimizer, scheduler, recipe.max_grad_norm)


def build_optimizer(model: nn.Module, recipe: Train, total_steps: int) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """Return AdamW, which updates a tensor at a time as transformers' did, and the linear schedule without warm-up."""
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        eps=recipe.adam_epsilon,
        weight_decay=recipe.weight_decay,
        foreach=False,
    )
    return optimizer, get_linear_schedule_with_warmup(optimizer, 0, total_steps)


def collate(input_ids: Sequence[batching.TokenIds], labels: Tensor, length: int = MAX_LENGTH) -> dict[str, Tensor]:
    """Return input_ids and attention_mask (sentences, length) int64, and labels (sentences,) int64."""
    batch = batching.pad(input_ids, pad_token_id=0)
    fill = partial(nn.functional.pad, pad=(0, max(0, length - batch.input_ids.shape[1])))
    return {"input_ids": fill(batch.input_ids), "attention_mask": fill(batch.attention_mask), "labels": labels}


def take_step(
    model: PreTrainedModel,
    batch: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
    max_grad_norm: float,
) -> float:
    """Take an optimizer step; return the batch's mean loss. The model's attention must be eager."""
    model.zero_grad()
    loss: Tensor = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    scheduler.step()
    return loss.item()
