"""transformers' BERT over packed sentences: its own layers and weights, without the work that no result depends on."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, softmax

from cola import encoding, fast


def first_tokens(bert: Any, batch: encoding.Packed) -> Tensor:
    """What BERT says of each sentence's first token, [CLS]: (sentences, width).

    A classifier reads nothing else. So of the last layer, queries and all that follows attention are computed for these
    tokens alone; keys and values are of every token.
    """
    hidden = bert.embeddings(input_ids=batch.input_ids, position_ids=batch.position_ids)  # (rows, length, width)
    mask = torch.zeros(batch.attention_mask.shape, device=hidden.device)
    mask.masked_fill_(~batch.attention_mask, -torch.inf)  # float32, (rows, 1, length, length)
    *layers, last = bert.encoder.layer
    for layer in layers:
        hidden = _layer(layer, hidden, hidden, mask)
    row, place = batch.first // hidden.shape[1], batch.first % hidden.shape[1]
    first = hidden.flatten(0, 1).index_select(0, batch.first).unsqueeze(1)  # (sentences, 1, width)
    return _layer(last, first, hidden, mask[row, :, place].unsqueeze(2), row).squeeze(1)


def _layer(layer: Any, looking: Tensor, hidden: Tensor, mask: Tensor, row: Tensor | None = None) -> Tensor:
    """A layer's output for the tokens `looking` (n, queries, width), which look at hidden (rows, length, width).

    The i-th of `looking` looks at row[i] of hidden, or at the i-th. mask is (n, 1, queries, length).
    """
    attention = layer.attention.self
    query, key, value = attention.query(looking), attention.key(hidden), attention.value(hidden)
    if row is not None:
        key, value = key.index_select(0, row), value.index_select(0, row)
    query, key, value = (
        states.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)  # (n, heads, tokens, size)
        for states in (query, key, value)
    )
    mixed = _attend(query, key, value, mask, attention.dropout.p if attention.training else 0.0)
    attended = layer.attention.output(mixed.transpose(1, 2).flatten(2), looking)
    output: Tensor = layer.output(layer.intermediate(attended), attended)
    return output


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float) -> Tensor:
    if not query.is_cpu:
        return scaled_dot_product_attention(query, key, value, mask.to(query.dtype), dropout_p=dropout)
    # On a CPU, PyTorch's has no dropout, and mostly takes longer for sentences as short as these.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3) + mask  # float32
    return fast.drop(softmax(scores, dim=-1).to(value.dtype), dropout) @ value
