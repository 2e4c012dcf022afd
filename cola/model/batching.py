"""Batches of sentences: the order, the size, and token ids that are padded or packed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TokenIds = Sequence[int] | np.ndarray  # of a sentence, special tokens included
# The most tokens in a packed row: 32 of CoLA's sentences take twelve such rows. Longer rows have less padding (3% with
# 64, 5% with 32), and more scores between tokens of different sentences, which are thrown away.
PACKED_ROW_LENGTH = 32
# Where few shapes of batches are wanted, rows have a multiple of 48 tokens (CoLA's longest sentence has 47), and their
# number is even: 70% of CoLA's batches then have one shape, and 29% another.
ROW_LENGTHS, ROW_NUMBERS = 48, 2


class Padded(NamedTuple):
    """A batch with a row per sentence, padded to the length of the longest."""

    input_ids: Tensor  # (sentences, longest) int64
    attention_mask: Tensor  # (sentences, longest) int64, 1 for a token and 0 for padding


class Packed(NamedTuple):
    """A batch with several sentences in a row. They do not attend to one another. A row may end with padding."""

    input_ids: Tensor  # (rows, length) int64
    position_ids: Tensor  # (rows, length) int64, from 0 at each sentence's first token
    attention_mask: Tensor  # (rows, 1, length, length) bool: true where a token attends to another
    first_token_index: Tensor  # (sentences,) int64: indices in the flattened rows
    lengths: Tensor  # (sentences,) int64: tokens of each sentence


def shuffle(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return a random order of `count` sentences, (count,) int64. Seed and epoch determine it."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def split_into_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an order into batches. The last may be smaller: 7,695 sentences by 32 give 241 batches."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def split_into_micro_batches(
    rows: np.ndarray, input_ids: Sequence[TokenIds], tokens: int | None, *, padded: bool
) -> list[np.ndarray]:
    """Cut a batch, `rows` of input_ids, into micro-batches of at most `tokens` tokens. None does not cut it.

    Padding counts where sentences will be `padded`. A sentence with more tokens is a micro-batch by itself.
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


def pack(input_ids: Sequence[TokenIds], few_shapes: bool = False) -> Packed:
    """Put sentences into rows of PACKED_ROW_LENGTH tokens, or of the longest sentence's length where that is more.

    The number of rows is what the tokens would fill. Rows become as short as they can; a few tokens longer if need be.
    With `few_shapes`, row lengths are multiples of ROW_LENGTHS and numbers of rows are multiples of ROW_NUMBERS.

    With a length of 6, [[101, 7, 102], [101, 102], [101, 8, 9, 102]] -> input_ids [[101, 8, 9, 102, 0], [101, 7, 102,
    101, 102]], position_ids [[0, 1, 2, 3, 0], [0, 1, 2, 0, 1]], first_token_index [5, 8, 0], lengths [3, 2, 4].
    """
    lengths = [len(ids) for ids in input_ids]
    if few_shapes:
        row_length = round_up(max(lengths), ROW_LENGTHS)
        rows = round_up(-(-sum(lengths) // row_length), ROW_NUMBERS)
    else:
        rows = -(-sum(lengths) // max(PACKED_ROW_LENGTH, *lengths))
        row_length = max(-(-sum(lengths) // rows), *lengths)
    while (first_token_index := _pack_first_fit(lengths, rows, row_length)) is None:
        rows, row_length = (rows + ROW_NUMBERS, row_length) if few_shapes else (rows, row_length + 1)

    tokens = np.zeros(rows * row_length, dtype=np.int64)
    sentence_of = np.full(len(tokens), -1)  # the sentence of each token; -1: padding
    positions = np.zeros_like(tokens)
    for sentence, (ids, start) in enumerate(zip(input_ids, first_token_index, strict=True)):
        span = slice(start, start + len(ids))
        tokens[span], sentence_of[span], positions[span] = ids, sentence, np.arange(len(ids))
    by_row = torch.from_numpy(sentence_of).view(rows, 1, row_length)
    return Packed(
        torch.from_numpy(tokens).view(rows, row_length),
        torch.from_numpy(positions).view(rows, row_length),
        by_row.unsqueeze(2) == by_row.unsqueeze(3),  # padding attends to padding: an all-masked row would give NaN
        torch.from_numpy(first_token_index),
        torch.tensor(lengths),
    )


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _pack_first_fit(lengths: list[int], rows: int, row_length: int) -> np.ndarray | None:
    """Put each sentence, the longest first, into the first row that has room for it.

    Returns the index of each sentence's first token in the flattened rows, (sentences,) int64; None if they do not fit.
    """
    free = [row_length] * rows  # tokens, by row
    first_token_index = np.empty(len(lengths), dtype=np.int64)
    for sentence in np.argsort(lengths, kind="stable")[::-1]:
        length = lengths[sentence]
        row = next((row for row, room in enumerate(free) if room >= length), None)
        if row is None:
            return None
        first_token_index[sentence] = (row + 1) * row_length - free[row]
        free[row] -= length
    return first_token_index
