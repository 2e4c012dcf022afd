"""Attention over packed sentences, with the signature that transformers' models call; and a faster dropout for CPUs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention, softmax
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

NAME = "short_sentences"  # the name of `attend` for transformers' set_attn_implementation


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
    """Return the attended values, (n, queries, heads, size). The arguments are transformers'.

    query is (n, heads, queries, size); key and value are (n, heads, tokens, size). attention_mask, (n, 1, queries,
    tokens), is added to the scores.
    """
    if not query.is_cpu:
        context = scaled_dot_product_attention(query, key, value, attention_mask, dropout, scale=scaling)
        return context.transpose(1, 2), None
    # On a CPU, PyTorch's function has no dropout, and is mostly slower for sentences as short as these.
    scores = (query * (scaling or query.shape[-1] ** -0.5)) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores = scores + attention_mask  # float32
    weights = drop(softmax(scores, dim=-1).to(value.dtype), dropout)
    return (weights @ value).transpose(1, 2), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)  # for padded sentences; it is added to the scores, too


def make_additive_mask(attention_mask: Tensor) -> Tensor:
    """Return 0 where attention_mask is true and minus infinity elsewhere, in the data type of attention scores."""
    device, (*sizes, length) = attention_mask.device, attention_mask.shape
    autocast = device.type != "cpu" and torch.is_autocast_enabled(device.type)  # on a CPU, scores are float32
    dtype = torch.get_autocast_dtype(device.type) if autocast else torch.float32
    # A GPU's attention would copy a mask in each layer whose rows are not a multiple of 8 apart.
    mask = torch.zeros(*sizes, -(-length // 8) * 8, device=device, dtype=dtype)[..., :length]
    return mask.masked_fill_(~attention_mask, -torch.inf)


class Dropout(nn.Dropout):
    """nn.Dropout; on a CPU it takes a fifth of the time."""

    def forward(self, values: Tensor) -> Tensor:
        return drop(values, self.p) if self.training else values


def drop(values: Tensor, probability: float) -> Tensor:
    """Zero each value with `probability`, rounded to 1 in 65,536, and scale the rest so that the mean stays."""
    dropped = round(probability * 2**16)  # of 65,536 cases
    if dropped == 0:
        return values
    if not values.is_cpu or dropped == 2**16:
        return functional.dropout(values, probability)
    # A random number of 64 bits serves four values. Clamping the cases to 0 and 1 takes a fraction of the time of a
    # comparison and a conversion from bool.
    numbers = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    cases = numbers.view(torch.int16)[: values.numel()]  # -32,768 to 32,767, equally likely
    last = dropped - 2**15 - 1  # the last case that drops
    mask = cases.clamp_(last, last + 1).sub_(last).to(values.dtype).view(values.shape)  # 0 drops, 1 keeps
    # The scale is a float32 scalar of a separate multiplication: a bfloat16 mask would round it and bias every value.
    return values * mask * (2**16 / (2**16 - dropped))
