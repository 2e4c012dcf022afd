"""What makes the same training faster, each part named. `train.fast: false` does without all of it.

Sentences are packed instead of padded, and the last layer computes what the classifier reads (packed.py); matrices are
multiplied in bfloat16 where the processor has units for it (runtime.choose_precision). Here is the rest: dropout that
costs less, and weights laid out so that a step moves less memory. The training loop stays the tutorial's.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import PreTrainedModel

from cola.data.ragged import RaggedArray
from cola.model import attention, hardware


@contextmanager
def fast_training(
    model: PreTrainedModel, input_ids: list[RaggedArray], precision: torch.dtype, weight_decay: float
) -> Iterator[tuple[list[RaggedArray], list[nn.Parameter]]]:
    """Make the model ready for fast training; afterwards its weights have names, shapes and type as before.

    Takes tables of sentences; yields them with the ids that the model has inside the block, and what the optimizer
    trains there.
    """
    hardware.keep_freed_memory()
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, attention.Dropout(child.p).train(child.training))
    with ExitStack() as stack:
        if not weight_decay:  # it moves unused rows too
            input_ids = stack.enter_context(used_rows(model, input_ids))
        yield input_ids, [stack.enter_context(flat_weights(model, precision))]


@contextmanager
def used_rows(model: PreTrainedModel, input_ids: list[RaggedArray]) -> Iterator[list[RaggedArray]]:
    """Train with those rows of the word embeddings alone that the sentences use: a fifth of BERT's, on CoLA.

    The others' gradient and moments are 0 for ever, so AdamW without weight decay leaves them as they are. The whole
    table is back, with the trained rows in it, at the end.
    """
    embedding: Any = model.get_input_embeddings()
    whole, padding = embedding.weight, embedding.padding_idx
    used = np.unique(
        np.concatenate([[padding], *(np.unique(block) for table in input_ids for block in table.blocks())])
    )
    embedding.weight = nn.Parameter(whole.detach()[used])
    embedding.padding_idx = int(np.searchsorted(used, padding))
    try:
        yield [table.map_values(lambda block: np.searchsorted(used, block)) for table in input_ids]
    finally:
        with torch.no_grad():
            whole[used] = embedding.weight
        embedding.weight, embedding.padding_idx = whole, padding


@contextmanager
def flat_weights(model: PreTrainedModel, precision: torch.dtype) -> Iterator[nn.Parameter]:
    """Keep all weights in one float32 vector and their gradients in another: one pass each for norm and optimizer.

    Yields that vector, which the optimizer trains. The Linears compute with copies in `precision`, as autocast has them
    do; renewed as a Linear is about to compute, a copy is in the processor's cache. Every weight must have a gradient
    in every step. Gradients add up until the optimizer steps.
    """
    weights = list(model.parameters())
    vector = nn.Parameter(torch.cat([each.detach().flatten() for each in weights]))
    vector.grad = torch.zeros_like(vector)
    masters, gradients = _views(vector.detach(), weights), _views(vector.grad, weights)
    hooks: list[Any] = []
    collected: set[Tensor] = set()  # in this step; the first of a step need not be added to anything

    def collect(gradient: Tensor, each: Tensor) -> None:  # it is in the cache, too
        (gradient.add_ if each in collected else gradient.copy_)(each.grad)  # type: ignore[arg-type]
        collected.add(each)
        each.grad = None

    hooks.append(register_optimizer_step_post_hook(lambda *_: collected.clear()))

    for each, master, gradient in zip(weights, masters, gradients, strict=True):
        each.data = master
        hooks.append(each.register_post_accumulate_grad_hook(partial(collect, gradient)))

    def renew(masters: list[Tensor], linear: nn.Module, _: Any) -> None:
        for each, master in zip(linear.parameters(), masters, strict=True):
            each.data.copy_(master)

    for module in model.modules():
        if isinstance(module, nn.Linear) and precision != torch.float32:
            hooks.append(module.register_forward_pre_hook(partial(renew, [each.data for each in module.parameters()])))
            for each in module.parameters():
                each.data = each.data.to(precision)
    try:
        yield vector
    finally:
        for hook in hooks:
            hook.remove()
        for each, master in zip(weights, masters, strict=True):
            each.data = master.clone()


def _views(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut a vector into views with these tensors' shapes."""
    pieces = vector.split([each.numel() for each in like])
    return [piece.view(each.shape) for piece, each in zip(pieces, like, strict=True)]
