"""The tutorial's own training loop, written from its description: what every proof and timing here is measured against.

Each sentence is padded to 64 tokens, all is float32, attention is eager, and AdamW takes one weight after another.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from cola.core.params import Train
from cola.model import batching

MAX_LENGTH = 64  # tokens


def fit(
    model: PreTrainedModel,
    input_ids: Sequence[batching.TokenIds],
    labels: Tensor,
    recipe: Train,
    seed: int,
    length: int = MAX_LENGTH,
) -> Iterator[float]:
    """Train `model` in place; yields each step's loss. The order of the sentences is the one that training.fit takes.

    Sentences are padded to `length` tokens, or to the longest of their batch where that is more.
    """
    epochs = [
        batching.split_into_batches(batching.shuffled_order(len(input_ids), seed, epoch), recipe.batch_size)
        for epoch in range(1, recipe.epochs + 1)
    ]
    optimizer, scheduler = optimization(model, recipe, sum(map(len, epochs)))
    for batches in epochs:
        for rows in batches:
            model.train()
            batch = collate([input_ids[row] for row in rows], labels[rows], length)
            yield step(model, batch, optimizer, scheduler, recipe.max_grad_norm)


def optimization(model: nn.Module, recipe: Train, total_steps: int) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """AdamW as transformers' was, a tensor at a time, and the linear schedule without warm-up."""
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        eps=recipe.adam_epsilon,
        weight_decay=recipe.weight_decay,
        foreach=False,
    )
    return optimizer, get_linear_schedule_with_warmup(optimizer, 0, total_steps)


def collate(input_ids: Sequence[batching.TokenIds], labels: Tensor, length: int = MAX_LENGTH) -> dict[str, Tensor]:
    """input_ids and attention_mask (sentences, length) int64, labels (sentences,) int64."""
    batch = batching.pad(input_ids, pad_token_id=0)
    fill = partial(nn.functional.pad, pad=(0, max(0, length - batch.input_ids.shape[1])))
    return {"input_ids": fill(batch.input_ids), "attention_mask": fill(batch.attention_mask), "labels": labels}


def step(
    model: PreTrainedModel,
    batch: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
    max_grad_norm: float,
) -> float:
    """One step of the optimizer; returns the batch's mean loss. `model` is the one that attends eagerly."""
    model.zero_grad()
    loss: Tensor = model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).loss
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    scheduler.step()
    return loss.item()
