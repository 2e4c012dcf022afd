import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cola.model import batching

tokens = st.lists(st.lists(st.integers(1, 30_000), min_size=1, max_size=80), min_size=1, max_size=20)


def test_the_orders_of_six_sentences_with_seed_42():
    # NumPy's default_rng([42, epoch]).permutation(6)
    assert batching.shuffled_order(6, 42, 1).tolist() == [4, 0, 1, 2, 3, 5]
    assert batching.shuffled_order(6, 42, 2).tolist() == [0, 4, 5, 3, 1, 2]


def test_the_last_batch_holds_what_is_left():
    order = np.array([4, 2, 0, 1, 3])
    assert [batch.tolist() for batch in batching.split_into_batches(order, 2)] == [[4, 2], [0, 1], [3]]
    assert [batch.tolist() for batch in batching.split_into_batches(order, 5)] == [[4, 2, 0, 1, 3]]
    assert [batch.tolist() for batch in batching.split_into_batches(order, 32)] == [[4, 2, 0, 1, 3]]
    assert batching.split_into_batches(order[:0], 2) == []
    sizes = [len(batch) for batch in batching.split_into_batches(np.arange(7695), 32)]
    assert (len(sizes), sizes[-1]) == (241, 15)  # 240 * 32 + 15 = 7695


def test_two_sentences_padded():
    batch = batching.pad([[101, 0, 102], [101, 102]], 9)  # 0 is an id like any other where padding is 9
    assert batch.input_ids.tolist() == [[101, 0, 102], [101, 102, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]


def test_three_sentences_packed(monkeypatch):
    monkeypatch.setattr(batching, "PACKED_ROW_LENGTH", 6)
    batch = batching.pack([[101, 7, 102], [101, 102], [101, 8, 9, 102]])
    assert batch.input_ids.tolist() == [[101, 8, 9, 102, 0], [101, 7, 102, 101, 102]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0], [0, 1, 2, 0, 1]]
    assert batch.first_token_index.tolist() == [5, 8, 0]
    assert batch.lengths.tolist() == [3, 2, 4]
    four_and_padding = [[1, 1, 1, 1, 0]] * 4 + [[0, 0, 0, 0, 1]]
    three_and_two = [[1, 1, 1, 0, 0]] * 3 + [[0, 0, 0, 1, 1]] * 2
    assert batch.attention_mask.int().tolist() == [[four_and_padding], [three_and_two]]


@given(tokens)
def test_a_packed_sentence_is_whole_and_sees_itself_alone(input_ids):
    batch = batching.pack(input_ids)
    rows, length = batch.input_ids.shape
    assert rows == -(-sum(map(len, input_ids)) // max(batching.PACKED_ROW_LENGTH, *map(len, input_ids)))
    assert max(map(len, input_ids)) <= length
    assert batch.attention_mask.shape == (rows, 1, length, length)
    for ids, first in zip(input_ids, batch.first_token_index.tolist(), strict=True):
        row, start = divmod(first, length)
        own = slice(start, start + len(ids))
        assert batch.input_ids[row, own].tolist() == ids
        assert batch.position_ids[row, own].tolist() == list(range(len(ids)))
        seen = batch.attention_mask[row, 0]
        assert seen[own, own].all()
        assert seen[own].sum() == seen[:, own].sum() == len(ids) ** 2
    assert (batch.input_ids != 0).sum() == sum(map(len, input_ids)), "the rest is padding"
    assert batch.attention_mask.any(dim=-1).all(), "a row that sees nothing would be NaN"


def first_fit(lengths, rows, row_length):
    """The packing as one would write it down: the longest first, each into the first row that has room."""
    free, starts = [row_length] * rows, [0] * len(lengths)
    for sentence in np.argsort(lengths, kind="stable")[::-1]:
        row = next((row for row in range(rows) if free[row] >= lengths[sentence]), None)
        if row is None:
            return None
        starts[sentence] = row * row_length + row_length - free[row]
        free[row] -= lengths[sentence]
    return starts


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 40), st.integers(40, 50))
def test_a_sentence_goes_into_the_first_row_that_has_room(lengths, rows, row_length):
    packed = batching._first_fit(lengths, rows, row_length)
    assert (packed if packed is None else packed.tolist()) == first_fit(lengths, rows, row_length)


def test_packing_takes_time_that_grows_with_the_batch():
    """4,000 sentences of 3 to 22 tokens run at most 50 lines each of batching.py."""
    lines = 0

    def count(frame, event, _):
        nonlocal lines
        lines += event == "line"
        return count if frame.f_code.co_filename == batching.__file__ else None

    input_ids = [[7] * (3 + sentence % 20) for sentence in range(4_000)]
    before = sys.gettrace()
    sys.settrace(count)
    try:
        batching.pack(input_ids)
    finally:
        sys.settrace(before)
    assert 4_000 < lines < 200_000


def test_a_batch_is_cut_into_parts_of_so_many_tokens():
    input_ids = [[1] * length for length in (3, 2, 9, 4, 1, 1)]
    rows = np.array([5, 0, 1, 2, 3, 4])  # of 1, 3, 2, 9, 4 and 1 tokens

    def parts(tokens, padded):
        return [part.tolist() for part in batching.split_into_micro_batches(rows, input_ids, tokens, padded=padded)]

    assert parts(None, padded=False) == [[5, 0, 1, 2, 3, 4]]
    assert parts(6, padded=False) == [[5, 0, 1], [2], [3, 4]]
    assert parts(5, padded=False) == [[5, 0], [1], [2], [3, 4]]
    assert parts(6, padded=True) == [[5, 0], [1], [2], [3], [4]]
    assert parts(8, padded=True) == [[5, 0], [1], [2], [3, 4]]
    assert parts(1, padded=True) == [[5], [0], [1], [2], [3], [4]]
