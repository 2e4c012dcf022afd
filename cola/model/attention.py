"""Attention over packed sentences, as transformers' models call it; and dropout that costs less on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention, softmax
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

NAME = "short_sentences"  # of `attend` among the attention functions of transformers: set_attn_implementation takes it


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """What the tokens read, (n, queries, heads, size); the arguments are transformers'.

    query is (n, heads, queries, size), key and value (n, heads, tokens, size), and attention_mask, which is added to
    the scores, (n, 1, queries, tokens).
    """
    if not query.is_cpu:
        context = scaled_dot_product_attention(query, key, value, attention_mask, dropout, scale=scaling)
        return context.transpose(1, 2), None
    # On a CPU, PyTorch's function has no dropout, and mostly takes longer for sentences as short as these.
    scores = (query * (scaling or query.shape[-1] ** -0.5)) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores = scores + attention_mask  # float32
    weights = drop(softmax(scores, dim=-1).to(value.dtype), dropout)
    return (weights @ value).transpose(1, 2), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)  # of padded sentences: it is added, too


def additive_mask(attention_mask: Tensor) -> Tensor:
    """0 where attention_mask is true, minus infinity elsewhere, in the type that attention scores have."""
    device = attention_mask.device
    autocast = device.type != "cpu" and torch.is_autocast_enabled(device.type)  # on a CPU, scores are float32
    kind = torch.get_autocast_dtype(device.type) if autocast else torch.float32
    return torch.zeros(attention_mask.shape, device=device, dtype=kind).masked_fill_(~attention_mask, -torch.inf)


class Dropout(nn.Dropout):
    """nn.Dropout; on a CPU it takes a fifth of the time."""

    def forward(self, values: Tensor) -> Tensor:
        return drop(values, self.p) if self.training else values


def drop(values: Tensor, probability: float) -> Tensor:
    """Zero each value with `probability`, to 1 in 65,536, and scale the others so that the mean stays."""
    if probability == 0:
        return values
    if not values.is_cpu:
        return functional.dropout(values, probability)
    dropped = round(probability * 2**16)  # of 65,536 cases
    # Four elements share a draw of 64 bits. Clamping tells the cases apart, 0 from 1, in a fraction of the time that
    # comparing and converting from bool take.
    draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    cases = draws.view(torch.int16)[: values.numel()]  # each of -32,768 to 32,767 as likely
    last = dropped - 2**15 - 1  # the last case that drops
    mask = cases.clamp_(last, last + 1).sub_(last).to(values.dtype).view(values.shape)  # 0 drops, 1 keeps
    # The scale multiplies on its own, as a float32 scalar: rounded into a bfloat16 mask it would bias every value.
    return values * mask * (2**16 / (2**16 - dropped))
