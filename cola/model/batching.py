"""Token ids of sentences -> batches, padded or packed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TokenIds = Sequence[int] | np.ndarray  # of one sentence, special tokens included


PACKED_ROW_LENGTH = 64  # tokens in a packed row, or a few less: 32 of CoLA's sentences take six such rows


class Padded(NamedTuple):
    """A row per sentence, padded to the longest of the batch and no further."""

    input_ids: Tensor  # (sentences, longest) int64
    attention_mask: Tensor  # (sentences, longest) int64, 1 for a token and 0 for padding


class Packed(NamedTuple):
    """Sentences one behind the other in a few rows, each blind to the others. A row's end may be padding."""

    input_ids: Tensor  # (rows, length) int64
    position_ids: Tensor  # (rows, length) int64, from 0 at each sentence's first token
    attention_mask: Tensor  # (rows, 1, length, length) bool: may this token look at that one?
    first_token_index: Tensor  # (sentences,) int64: where each sentence's first token is, in the flattened rows


def shuffled_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """An order of `count` sentences, (count,) int64, that depends on nothing but seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def split_into_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an order into batches; the last one holds what is left: 7,695 sentences by 32 give 241 batches."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def split_into_micro_batches(
    rows: np.ndarray, input_ids: Sequence[TokenIds], tokens: int | None, *, padded: bool
) -> list[np.ndarray]:
    """Cut a batch of rows of `input_ids`, in order, into parts of at most `tokens` tokens each; None: into one part.

    Where they are to be `padded`, padding counts too. A sentence of more tokens is a part of its own.
    """
    cuts, count, longest = [], 0, 0
    for place, row in enumerate(rows):
        length = len(input_ids[row])
        count, longest = count + (1 if padded else length), max(longest, length)
        if tokens and place and count * (longest if padded else 1) > tokens:
            cuts.append(place)
            count, longest = 1 if padded else length, length
    return np.split(rows, cuts)


def pad(input_ids: Sequence[TokenIds], pad_token_id: int) -> Padded:
    """[[101, 7, 102], [101, 102]] -> input_ids [[101, 7, 102], [101, 102, 0]], attention_mask [[1, 1, 1], [1, 1, 0]]"""
    longest = max(len(ids) for ids in input_ids)
    padded = np.full((len(input_ids), longest), pad_token_id, dtype=np.int64)
    mask = np.zeros_like(padded)
    for row, ids in enumerate(input_ids):
        padded[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return Padded(torch.from_numpy(padded), torch.from_numpy(mask))


def pack(input_ids: Sequence[TokenIds], pad_token_id: int) -> Packed:
    """Put sentences into as many rows as they would fill of PACKED_ROW_LENGTH tokens (or of the longest sentence's),
    and make the rows as short as then fits.

    With rows of 6, [[101, 7, 102], [101, 102], [101, 8, 9, 102]] -> input_ids [[101, 8, 9, 102, 0],
    [101, 7, 102, 101, 102]], position_ids [[0, 1, 2, 3, 0], [0, 1, 2, 0, 1]], first_token_index [5, 8, 0].
    """
    lengths = [len(ids) for ids in input_ids]
    rows = -(-sum(lengths) // max(PACKED_ROW_LENGTH, *lengths))
    row_length = max(-(-sum(lengths) // rows), *lengths)
    while (first := _first_fit(lengths, rows, row_length)) is None:
        row_length += 1

    tokens = np.full(rows * row_length, pad_token_id, dtype=np.int64)
    owner = np.full(len(tokens), -1)  # which sentence each token is of; -1: none
    starts = np.zeros(len(tokens), dtype=np.int64)
    for sentence, (ids, start) in enumerate(zip(input_ids, first, strict=True)):
        tokens[start : start + len(ids)] = ids
        owner[start : start + len(ids)] = sentence
        starts[start : start + len(ids)] = start
    positions = np.where(owner >= 0, np.arange(len(tokens)) - starts, 0)
    by_row = torch.from_numpy(owner).view(rows, 1, row_length)
    return Packed(
        torch.from_numpy(tokens).view(rows, row_length),
        torch.from_numpy(positions).view(rows, row_length),
        by_row.unsqueeze(2) == by_row.unsqueeze(3),  # padding sees padding: a row of nothing would be NaN
        torch.from_numpy(first),
    )


def _first_fit(lengths: list[int], rows: int, row_length: int) -> np.ndarray | None:
    """Where in the flattened rows each sentence begins, the longest placed first; None where a sentence has no room."""
    free = [row_length] * rows  # tokens, by row
    first = np.empty(len(lengths), dtype=np.int64)
    for sentence in np.argsort(lengths, kind="stable")[::-1]:
        row = next((row for row, left in enumerate(free) if left >= lengths[sentence]), None)
        if row is None:
            return None
        first[sentence] = (row + 1) * row_length - free[row]
        free[row] -= lengths[sentence]
    return first
