"""What makes the same fine-tuning faster, each part named. `train.fast: false` does without all of it.

Sentences are packed into rows instead of padded (encoding.pack), and matrices are multiplied in bfloat16 where the
processor has units for it (runtime.choose_precision). Here is the rest: transformers' own BERT, with three of its parts
replaced by ones that compute the same with less work on a CPU. Training stays the tutorial's.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask


@contextmanager
def prepared(
    model: PreTrainedModel, input_ids: list[list[np.ndarray]], weight_decay: float
) -> Iterator[list[list[np.ndarray]]]:
    """Replace the model's attention and dropout, and leave out the word embeddings that no sentence here uses.

    Takes and yields tables of sentences: the ids that it yields are for the model as it is inside the block. Names,
    shapes and the rest of the weights are as before, at the end.
    """
    keep_freed_memory()
    model.set_attn_implementation(_ATTENTION)
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, Dropout(child.p).train(child.training))
    if weight_decay:  # it moves unused rows too
        yield input_ids
    else:
        with used_rows(model, input_ids) as renumbered:
            yield renumbered


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: else each step asks the kernel for the same gigabyte again, page by page."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # not in every C library
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, bytes: the highest that it takes


class Dropout(nn.Dropout):
    """nn.Dropout; on a CPU its mask costs an eighth: 15 random bits an element instead of a float from Bernoulli's."""

    def forward(self, values: Tensor) -> Tensor:
        return drop(values, self.p) if self.training else values


def drop(values: Tensor, probability: float) -> Tensor:
    """Zero each value with `probability`, to 1 in 32,768, and scale the others so that the mean stays."""
    if probability == 0 or not values.is_cpu:
        return functional.dropout(values, probability)
    limit = round(probability * 2**15)
    kept = torch.empty(values.shape, dtype=torch.int16).random_() >= limit  # random_ fills with 0 to 32,767
    # The scale multiplies on its own, as a float32 scalar: rounded into a bfloat16 mask it would bias every value.
    return values * kept * (2**15 / (2**15 - limit))


def _attention(
    module: nn.Module,
    query: Tensor,  # (rows, heads, length, size), as key and value
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each sentence, for transformers' AttentionInterface. Returns (rows, length, heads, size)."""
    if dropout == 0 or not query.is_cpu:
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attention_mask, dropout_p=dropout, scale=scaling
        )
    else:  # PyTorch has no fused attention with dropout for a CPU
        scores = (query * scaling) @ key.transpose(2, 3)
        hidden = torch.zeros_like(attention_mask, dtype=scores.dtype).masked_fill_(~attention_mask, -torch.inf)
        mixed = drop(functional.softmax(scores + hidden, dim=-1), dropout) @ value
    return mixed.transpose(1, 2).contiguous(), None


_ATTENTION = "packed"
AttentionInterface.register(_ATTENTION, _attention)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)  # so that a padded batch has its mask too


@contextmanager
def used_rows(model: PreTrainedModel, input_ids: list[list[np.ndarray]]) -> Iterator[list[list[np.ndarray]]]:
    """Train with those rows of the word embeddings alone that the sentences use: a fifth of BERT's, on CoLA.

    The others' gradient and moments are 0 for ever, so AdamW without weight decay leaves them as they are. The whole
    table is back, with the trained rows in it, at the end.
    """
    embedding: Any = model.get_input_embeddings()
    whole, padding = embedding.weight, embedding.padding_idx
    used = np.unique(np.concatenate([[padding], *(ids for table in input_ids for ids in table)]))
    embedding.weight = nn.Parameter(whole.detach()[used])
    embedding.padding_idx = int(np.searchsorted(used, padding))
    try:
        yield [[np.searchsorted(used, ids) for ids in table] for table in input_ids]
    finally:
        with torch.no_grad():
            whole[used] = embedding.weight
        embedding.weight, embedding.padding_idx = whole, padding
