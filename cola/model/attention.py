"""transformers' BERT over packed sentences, with its own layers and weights; and dropout that costs less on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention, softmax

from cola.model import batching


def first_token_states(bert: Any, batch: batching.Packed) -> Tensor:
    """The last hidden state of each sentence's first token, [CLS]: (sentences, width).

    A classifier reads nothing else. So in the last layer, queries and all that follows attention are computed for these
    tokens alone; keys and values are of every token.
    """
    hidden = bert.embeddings(input_ids=batch.input_ids, position_ids=batch.position_ids)  # (rows, length, width)
    mask = _additive_mask(batch.attention_mask, hidden)
    *layers, last = bert.encoder.layer
    for layer in layers:
        hidden = _layer(layer, hidden, hidden, mask)
    row, place = batch.first_token_index // hidden.shape[1], batch.first_token_index % hidden.shape[1]
    first = hidden.flatten(0, 1).index_select(0, batch.first_token_index).unsqueeze(1)  # (sentences, 1, width)
    return _layer(last, first, hidden, mask[row, :, place].unsqueeze(2), row).squeeze(1)


def _additive_mask(attention_mask: Tensor, hidden: Tensor) -> Tensor:
    """0 where attention_mask is true, minus infinity elsewhere, in the type that attention scores have."""
    kind = hidden.device.type
    autocast = kind != "cpu" and torch.is_autocast_enabled(kind)  # on a CPU, scores are float32
    mask = torch.zeros(
        attention_mask.shape, device=hidden.device, dtype=torch.get_autocast_dtype(kind) if autocast else torch.float32
    )
    return mask.masked_fill_(~attention_mask, -torch.inf)


def _layer(layer: Any, queried: Tensor, hidden: Tensor, mask: Tensor, row: Tensor | None = None) -> Tensor:
    """A layer's output (n, queries, width) for the tokens `queried`, which attend to hidden (rows, length, width).

    The i-th of `queried` attends to row[i] of hidden, or to row i. mask is (n, 1, queries, length).
    """
    attention = layer.attention.self
    query, key, value = attention.query(queried), attention.key(hidden), attention.value(hidden)
    if row is not None:
        key, value = key.index_select(0, row), value.index_select(0, row)
    query, key, value = (
        states.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)  # (n, heads, tokens, size)
        for states in (query, key, value)
    )
    context = _attend(query, key, value, mask, attention.dropout.p if attention.training else 0.0)
    attended = layer.attention.output(context.transpose(1, 2).flatten(2), queried)
    output: Tensor = layer.output(layer.intermediate(attended), attended)
    return output


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, probability: float) -> Tensor:
    if not query.is_cpu:
        return scaled_dot_product_attention(query, key, value, mask, dropout_p=probability)
    # On a CPU, PyTorch's function has no dropout, and mostly takes longer for sentences as short as these.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3) + mask  # float32
    return dropout(softmax(scores, dim=-1).to(value.dtype), probability) @ value


class Dropout(nn.Dropout):
    """nn.Dropout; on a CPU it takes a fifth of the time."""

    def forward(self, values: Tensor) -> Tensor:
        return dropout(values, self.p) if self.training else values


def dropout(values: Tensor, probability: float) -> Tensor:
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
