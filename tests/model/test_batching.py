import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cola.model import batching

tokens = st.lists(st.lists(st.integers(1, 30_000), min_size=1, max_size=80), min_size=1, max_size=20)


def test_an_order_depends_on_seed_and_epoch_alone():
    assert batching.shuffled_order(6, 42, 1).tolist() == batching.shuffled_order(6, 42, 1).tolist()
    orders = {tuple(batching.shuffled_order(100, seed, epoch)) for seed in (1, 2, 42) for epoch in (1, 2, 3, 4)}
    assert len(orders) == 12
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(100))}


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


@given(tokens)
def test_padding_loses_no_token(input_ids):
    batch = batching.pad(input_ids, 0)
    assert batch.input_ids.shape == batch.attention_mask.shape == (len(input_ids), max(map(len, input_ids)))
    for ids, row, mask in zip(input_ids, batch.input_ids, batch.attention_mask, strict=True):
        assert row[mask.bool()].tolist() == ids
        assert mask.tolist() == [1] * len(ids) + [0] * (len(row) - len(ids))


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


@given(tokens, st.integers(1, 200), st.booleans())
def test_micro_batches_are_as_large_as_the_limit_allows(input_ids, limit, padded):
    def size(rows):
        lengths = [len(input_ids[row]) for row in rows]
        return len(rows) * max(lengths) if padded else sum(lengths)

    rows = np.arange(len(input_ids))[::-1]
    parts = batching.split_into_micro_batches(rows, input_ids, limit, padded=padded)
    assert np.concatenate(parts).tolist() == rows.tolist()
    assert all(size(part) <= limit or len(part) == 1 for part in parts)
    for part, following in itertools.pairwise(parts):
        assert size([*part, following[0]]) > limit


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
