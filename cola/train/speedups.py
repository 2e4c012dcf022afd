"""What makes the same training faster, part by part. `train.fast: false` does without all of it.

Sentences are packed instead of padded, and the last layer computes what the head reads (model/families.py);
matrices are multiplied in bfloat16 where the processor has units for it (device.choose_precision). Here is the rest:
dropout that costs less, and weights laid out so that a step moves less memory. The loop stays the tutorial's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cola.core.params import Train
from cola.data.ragged import Sentences
from cola.model import attention, families


class Prepared(NamedTuple):
    """What a training works with."""

    sentences: Mapping[str, Sentences]  # by split, with the token ids that the model has
    parameters: list[nn.Parameter]  # for the optimizer
    packed: bool  # the model takes sentences packed into rows


@contextmanager
def prepare(
    model: PreTrainedModel, sentences: Mapping[str, Sentences], recipe: Train, precision: torch.dtype
) -> Iterator[Prepared]:
    """Within the block the model trains fast, if the recipe asks for it and its family is known; else as it is.

    Afterwards its weights have their names, shapes and type as before.
    """
    if recipe.fast and families.supports(model):
        with _fast(model, sentences, precision, recipe.weight_decay) as prepared:
            yield prepared
        return
    if recipe.fast:
        known = ", ".join(families.FAMILIES)
        print(f"{model.config.model_type} is trained the plain way, on padded sentences; trained fast are {known}")
    yield Prepared(sentences, [weight for weight in model.parameters() if weight.requires_grad], packed=False)


@contextmanager
def _fast(
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
        if not weight_decay and model.get_input_embeddings().weight.requires_grad:  # a decay moves unused rows, too
            sentences = stack.enter_context(used_rows(model, sentences))
        yield Prepared(sentences, [stack.enter_context(flat_weights(model, precision))], packed=True)


@contextmanager
def used_rows(model: PreTrainedModel, sentences: Mapping[str, Sentences]) -> Iterator[dict[str, Sentences]]:
    """Train only those rows of the word embeddings that the sentences use: a fifth of BERT's, on CoLA.

    The other rows' gradients and moments are always 0, so AdamW without weight decay leaves them as they are. The whole
    table is back, with the trained rows in it, at the end.
    """
    embedding: Any = model.get_input_embeddings()
    table, padding = embedding.weight, embedding.padding_idx
    used = np.unique(np.concatenate([[padding], *(np.unique(split.input_ids.values) for split in sentences.values())]))
    embedding.weight = nn.Parameter(table.detach()[used])
    embedding.padding_idx = int(np.searchsorted(used, padding))

    def renumber(split: Sentences) -> Sentences:
        return split._replace(input_ids=split.input_ids.map_values(lambda values: np.searchsorted(used, values)))

    try:
        yield {name: renumber(split) for name, split in sentences.items()}
    finally:
        with torch.no_grad():
            table[used] = embedding.weight
        embedding.weight, embedding.padding_idx = table, padding


@contextmanager
def flat_weights(model: PreTrainedModel, precision: torch.dtype) -> Iterator[nn.Parameter]:
    """Hold all trained weights in a float32 vector, their gradients in another: one pass each for norm and optimizer.

    Yields that vector, which the optimizer trains. Every weight that is not frozen must have a gradient in every step.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    vector = nn.Parameter(torch.cat([weight.detach().flatten() for weight in weights]))
    with (
        _weights_in(vector.detach(), weights),
        _gradients_in(vector, weights),
        _low_precision_linears(model, precision),
    ):
        yield vector


@contextmanager
def _weights_in(vector: Tensor, weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the block the weights are views of the vector; afterwards copies of them."""
    views = _views(vector, weights)
    for weight, view in zip(weights, views, strict=True):
        weight.data = view
    try:
        yield
    finally:
        for weight, view in zip(weights, views, strict=True):
            weight.data = view.clone()


@contextmanager
def _gradients_in(vector: nn.Parameter, weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the block a gradient goes to its place in vector.grad as soon as it is computed, while it is in the cache.

    Gradients add up until vector.grad is None again.
    """
    gradients = torch.empty_like(vector)
    collected: set[Tensor] = set()  # weights whose gradient is in vector.grad: the first one is added to nothing

    def collect(view: Tensor, weight: Tensor) -> None:
        if vector.grad is None:
            collected.clear()
            vector.grad = gradients
        (view.add_ if weight in collected else view.copy_)(weight.grad)  # type: ignore[arg-type]
        collected.add(weight)
        weight.grad = None

    hooks = [
        weight.register_post_accumulate_grad_hook(partial(collect, view))
        for weight, view in zip(weights, _views(gradients, weights), strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _low_precision_linears(model: PreTrainedModel, precision: torch.dtype) -> Iterator[None]:
    """Within the block the Linears compute with copies of their weights in `precision`, as autocast has them do.

    A copy is renewed as its Linear is about to compute: then it is in the processor's cache. Without gradients, as in
    validation, only the first use renews it, for the weights change no more until there are some.
    """
    linears = families.encoder_linears(model)
    originals: dict[nn.Module, list[Tensor]] = {  # float32
        linear: [weight.data for weight in linear.parameters()] for linear in linears
    }

    renewed: set[nn.Module] = set()  # since the last use with gradients

    def renew(linear: nn.Module, _: Any) -> None:
        if torch.is_grad_enabled():
            renewed.discard(linear)
        elif linear in renewed:
            return
        else:
            renewed.add(linear)
        for weight, original in zip(linear.parameters(), originals[linear], strict=True):
            weight.data.copy_(original)

    hooks: list[Any] = []
    for linear in linears if precision != torch.float32 else []:
        if linear.weight.requires_grad:
            hooks.append(linear.register_forward_pre_hook(renew))
        for weight in linear.parameters():
            weight.data = weight.data.to(precision)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for linear in linears:
            for weight, original in zip(linear.parameters(), originals[linear], strict=True):
                weight.data = original


def _views(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut a vector into views with these tensors' shapes."""
    pieces = vector.split([tensor.numel() for tensor in like])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
