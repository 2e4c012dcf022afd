import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola.model import batching

token_ids = st.lists(st.lists(st.integers(1, 30_000), min_size=1, max_size=80), min_size=1, max_size=20)


def test_the_orders_of_six_sentences_with_seed_42():
    # NumPy's default_rng([42, epoch]).permutation(6)
    assert batching.shuffle(6, 42, 1).tolist() == [4, 0, 1, 2, 3, 5]
    assert batching.shuffle(6, 42, 2).tolist() == [0, 4, 5, 3, 1, 2]


def test_the_last_batch_may_be_smaller():
    order = np.array([4, 2, 0, 1, 3])
    assert [batch.tolist() for batch in batching.split_into_batches(order, 2)] == [[4, 2], [0, 1], [3]]
    assert [batch.tolist() for batch in batching.split_into_batches(order, 5)] == [[4, 2, 0, 1, 3]]
    assert batching.split_into_batches(order[:0], 2) == []


def test_two_sentences_padded():
    batch = batching.pad([[101, 0, 102], [101, 102]], 9)  # with padding 9, 0 is an ordinary id
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


@pytest.mark.parametrize("few_shapes", [False, True])
@given(input_ids=token_ids)
def test_a_packed_sentence_is_whole_and_attends_to_itself_only(input_ids, few_shapes):
    batch = batching.pack(input_ids, few_shapes)
    rows, length = batch.input_ids.shape
    if few_shapes:
        assert (rows % 2, length) == (0, -(-max(map(len, input_ids)) // 48) * 48)
    else:
        assert rows == -(-sum(map(len, input_ids)) // max(batching.PACKED_ROW_LENGTH, *map(len, input_ids)))
    assert max(map(len, input_ids)) <= length
    assert batch.attention_mask.shape == (rows, 1, length, length)
    for ids, first in zip(input_ids, batch.first_token_index.tolist(), strict=True):
        row, start = divmod(first, length)
        span = slice(start, start + len(ids))
        assert batch.input_ids[row, span].tolist() == ids
        assert batch.position_ids[row, span].tolist() == list(range(len(ids)))
        mask = batch.attention_mask[row, 0]
        assert mask[span, span].all()
        assert mask[span].sum() == mask[:, span].sum() == len(ids) ** 2
    assert (batch.input_ids != 0).sum() == sum(map(len, input_ids)), "the rest is padding"
    assert batch.attention_mask.any(dim=-1).all(), "an all-masked row would give NaN"


def test_micro_batches_have_at_most_so_many_tokens():
    input_ids = [[1] * length for length in (3, 2, 9, 4, 1, 1)]
    rows = np.array([5, 0, 1, 2, 3, 4])  # with 1, 3, 2, 9, 4 and 1 tokens

    def split(tokens, padded):
        return [part.tolist() for part in batching.split_into_micro_batches(rows, input_ids, tokens, padded=padded)]

    assert split(None, padded=False) == [[5, 0, 1, 2, 3, 4]]
    assert split(6, padded=False) == [[5, 0, 1], [2], [3, 4]]
    assert split(5, padded=False) == [[5, 0], [1], [2], [3, 4]]
    assert split(6, padded=True) == [[5, 0], [1], [2], [3], [4]]
    assert split(8, padded=True) == [[5, 0], [1], [2], [3, 4]]
    assert split(1, padded=True) == [[5], [0], [1], [2], [3], [4]]
