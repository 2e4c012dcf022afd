"""Token ids of sentences -> batches, padded or packed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TokenIds = Sequence[int] | np.ndarray  # of one sentence, special tokens included
# Tokens in a packed row: 32 of CoLA's sentences take twelve such rows, of which 7% is padding. Longer rows have less
# padding and more scores between tokens of different sentences, which are thrown away. With one length batches have few
# shapes: oneDNN takes milliseconds to ready each new one, and a processor's matrix units want multiples of 16 or 32.
PACKED_ROW_LENGTH = 32


class Padded(NamedTuple):
    """A batch with a row per sentence, padded to the length of the longest."""

    input_ids: Tensor  # (sentences, longest) int64
    attention_mask: Tensor  # (sentences, longest) int64, 1 for a token and 0 for padding


class Packed(NamedTuple):
    """A batch with several sentences in a row, which do not attend to one another. A row may end with padding."""

    input_ids: Tensor  # (rows, length) int64
    position_ids: Tensor  # (rows, length) int64, from 0 at each sentence's first token
    attention_mask: Tensor  # (rows, 1, length, length) bool: whether a token attends to another
    first_token_index: Tensor  # (sentences,) int64: indices in the flattened rows
    lengths: Tensor  # (sentences,) int64: tokens of each sentence


def shuffled_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """A random order of `count` sentences, (count,) int64, that seed and epoch determine."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def split_into_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an order into batches; the last one may be smaller: 7,695 sentences by 32 give 241 batches."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def split_into_micro_batches(
    rows: np.ndarray, input_ids: Sequence[TokenIds], tokens: int | None, *, padded: bool
) -> list[np.ndarray]:
    """Cut a batch, `rows` of input_ids, in order into micro-batches of at most `tokens` tokens; None: do not cut it.

    Where sentences will be `padded`, padding counts too. A sentence of more tokens is a micro-batch of its own.
    """
    cuts: list[int] = []
    start = total = longest = 0  # of the current micro-batch
    for index, row in enumerate(rows):
        length = len(input_ids[row])
        total, longest = total + length, max(longest, length)
        size = (index + 1 - start) * longest if padded else total
        if tokens and size > tokens and index > start:
            cuts.append(index)
            start, total, longest = index, length, length
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


def row_length(longest: int) -> int:
    """The tokens of the packed rows that a sentence of `longest` tokens takes: PACKED_ROW_LENGTH, or a multiple."""
    return -(-longest // PACKED_ROW_LENGTH) * PACKED_ROW_LENGTH


def pack(input_ids: Sequence[TokenIds]) -> Packed:
    """Put sentences into rows that are as long as the longest one takes.

    With rows of 6, [[101, 7, 102], [101, 102], [101, 8, 9, 102]] -> input_ids [[101, 8, 9, 102, 101, 102],
    [101, 7, 102, 0, 0, 0]], position_ids [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 0, 0]], first_token_index [6, 4, 0], lengths
    [3, 2, 4]. Padding, here token 0, is read by nothing.
    """
    lengths = [len(ids) for ids in input_ids]
    length = row_length(max(lengths))
    rows, first_token_index = _first_fit(lengths, length)

    tokens = np.zeros(rows * length, dtype=np.int64)
    sentence_of = np.full(len(tokens), -1)  # the sentence that a token is of; -1: padding
    starts = np.zeros(len(tokens), dtype=np.int64)  # of the sentence that a token is of
    for sentence, (ids, start) in enumerate(zip(input_ids, first_token_index, strict=True)):
        tokens[start : start + len(ids)] = ids
        sentence_of[start : start + len(ids)] = sentence
        starts[start : start + len(ids)] = start
    positions = np.where(sentence_of >= 0, np.arange(len(tokens)) - starts, 0)
    by_row = torch.from_numpy(sentence_of).view(rows, 1, length)
    return Packed(
        torch.from_numpy(tokens).view(rows, length),
        torch.from_numpy(positions).view(rows, length),
        by_row.unsqueeze(2) == by_row.unsqueeze(3),  # padding attends to padding: to nothing, it would be NaN
        torch.from_numpy(first_token_index),
        torch.tensor(lengths),
    )


def _first_fit(lengths: list[int], row_length: int) -> tuple[int, np.ndarray]:
    """How many rows it takes, and the index of each sentence's first token in the flattened rows, (sentences,) int64.

    The longest sentence is placed first, and each in the first row that has room for it.
    """
    free: list[int] = []  # tokens, by row
    first_token_index = np.empty(len(lengths), dtype=np.int64)
    for sentence in np.argsort(lengths, kind="stable")[::-1]:
        row = next((row for row, left in enumerate(free) if left >= lengths[sentence]), len(free))
        if row == len(free):
            free.append(row_length)
        first_token_index[sentence] = (row + 1) * row_length - free[row]
        free[row] -= lengths[sentence]
    return len(free), first_token_index
