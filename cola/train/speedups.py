"""Speedups of the same training, part by part. `train.fast: false` does without it.

Three parts are elsewhere: sentences are packed instead of padded (model/batching.py), the last layer computes only what
the head reads (model/families.py), and matrices are multiplied in bfloat16 where the processor has units for it
(device.choose_precision). This module has cheaper dropout, and weights laid out so that a step moves less memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from cola.core.params import Train
from cola.data.tables import Sentences
from cola.model import attention, families

# The sentences by split, with the model's token ids; the parameters for the optimizer; whether to pack the sentences.
Prepared = tuple[Mapping[str, Sentences], list[nn.Parameter], bool]


@contextmanager
def prepare(
    model: PreTrainedModel, sentences: Mapping[str, Sentences], recipe: Train, precision: torch.dtype
) -> Iterator[Prepared]:
    """Make the model's training fast within the block, if the recipe asks for it and its family is supported.

    Afterwards the model has its modules, and its weights have their names, shapes and types, as before.
    """
    if recipe.fast and families.supports(model):
        with _speed_up(model, sentences, precision, recipe.weight_decay) as prepared:
            yield prepared
        return
    if recipe.fast:
        fast = ", ".join(families.FAMILIES)
        print(f"{model.config.model_type} trains on padded sentences, which is slow; these families train fast: {fast}")
    yield sentences, [weight for weight in model.parameters() if weight.requires_grad], False


@contextmanager
def _speed_up(
    model: PreTrainedModel, sentences: Mapping[str, Sentences], precision: torch.dtype, weight_decay: float
) -> Iterator[Prepared]:
    with ExitStack() as stack:
        for module in list(model.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Dropout):
                    setattr(module, name, attention.Dropout(child.p).train(child.training))
                    stack.callback(setattr, module, name, child)
        stack.callback(model.set_attn_implementation, model.config._attn_implementation)
        model.set_attn_implementation(attention.NAME)
        if not weight_decay and model.get_input_embeddings().weight.requires_grad:  # decay changes unused rows, too
            sentences = stack.enter_context(drop_unused_rows(model, sentences))
        yield sentences, [stack.enter_context(flatten_weights(model, precision))], True


@contextmanager
def drop_unused_rows(model: PreTrainedModel, sentences: Mapping[str, Sentences]) -> Iterator[dict[str, Sentences]]:
    """Train only the rows of the word embeddings that the sentences use: a fifth of BERT's rows, on CoLA.

    Yields the sentences with the remaining rows' numbers. The full table, with the trained rows, is back after the
    block. The result is the same: an unused row's gradient and moments are 0, so AdamW without weight decay does not
    change it.
    """
    embedding: Any = model.get_input_embeddings()
    table, padding = embedding.weight, embedding.padding_idx
    used = np.unique(np.concatenate([[padding], *(ids for split in sentences.values() for ids in split.input_ids)]))
    embedding.weight = nn.Parameter(table.detach()[used])
    embedding.padding_idx = int(np.searchsorted(used, padding))

    def renumber(split: Sentences) -> Sentences:
        return split._replace(input_ids=[np.searchsorted(used, ids) for ids in split.input_ids])

    try:
        yield {name: renumber(split) for name, split in sentences.items()}
    finally:
        with torch.no_grad():
            table[used] = embedding.weight
        embedding.weight, embedding.padding_idx = table, padding


@contextmanager
def flatten_weights(model: PreTrainedModel, precision: torch.dtype) -> Iterator[nn.Parameter]:
    """Hold all trained weights in one float32 vector: norm and optimizer then take one pass over the memory each.

    Yields that vector, for the optimizer. Every weight that is not frozen must have a gradient in every step.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    vector = nn.Parameter(torch.cat([weight.detach().flatten() for weight in weights]))
    for weight, view in zip(weights, _cut(vector.detach(), weights), strict=True):
        weight.data = view
    originals: dict[Tensor, Tensor] = {weight: weight.data for weight in model.parameters()}  # float32
    hooks = _collect_gradients(vector, weights)
    if precision != torch.float32:
        hooks += _lower_precision(families.list_encoder_linears(model), precision, originals)
    try:
        yield vector
    finally:
        for hook in hooks:
            hook.remove()
        for weight in model.parameters():
            weight.data = originals[weight].clone()


def _collect_gradients(vector: nn.Parameter, weights: Sequence[nn.Parameter]) -> list[RemovableHandle]:
    """Move each gradient to its part of vector.grad as soon as it is computed, while it is in the processor's cache.

    Gradients add up until vector.grad is None again. Returns the hooks.
    """
    gradients = torch.empty_like(vector)
    collected: set[Tensor] = set()  # weights with a gradient in vector.grad; elsewhere it has an earlier step's values

    def collect(view: Tensor, weight: Tensor) -> None:
        if vector.grad is None:
            collected.clear()
            vector.grad = gradients
        (view.add_ if weight in collected else view.copy_)(weight.grad)  # type: ignore[arg-type]
        collected.add(weight)
        weight.grad = None

    views = _cut(gradients, weights)
    return [
        weight.register_post_accumulate_grad_hook(partial(collect, view))
        for weight, view in zip(weights, views, strict=True)
    ]


def _lower_precision(
    linears: Sequence[nn.Linear], precision: torch.dtype, originals: Mapping[Tensor, Tensor]
) -> list[RemovableHandle]:
    """Have the linears compute with copies of their weights in `precision`, as autocast does. Returns the hooks.

    A linear's copies are renewed just before it computes: a multiplication is faster with weights in the cache.
    """

    def renew(linear: nn.Module, _: Any) -> None:
        for weight in linear.parameters():
            weight.data.copy_(originals[weight])

    for linear in linears:
        linear.to(precision)
    return [linear.register_forward_pre_hook(renew) for linear in linears if linear.weight.requires_grad]


def _cut(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut a vector into views with the shapes of `like`."""
    pieces = vector.split([tensor.numel() for tensor in like])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
