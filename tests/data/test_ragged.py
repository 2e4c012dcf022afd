import numpy as np
import tiny
from hypothesis import given
from hypothesis import strategies as st

from cola.core import files
from cola.data import ragged, tables
from cola.data.ragged import RaggedArray


def test_rows_by_hand():
    rows = RaggedArray.from_rows([[101, 7, 102], [101, 102]])
    assert rows.values.tolist() == [101, 7, 102, 101, 102]
    assert rows.starts.tolist() == [0, 3, 5]
    assert rows.lengths.tolist() == [3, 2]
    assert [row.tolist() for row in rows] == [row.tolist() for row in rows[:]] == [[101, 7, 102], [101, 102]]
    assert [row.tolist() for row in rows[1::2]] == [[101, 102]]
    assert RaggedArray.from_rows(rows) is rows


@given(st.lists(st.lists(st.integers(0, 30_000), min_size=1), min_size=1))
def test_mapped_values_keep_their_rows_and_their_type(rows):
    original = RaggedArray.from_rows(rows)
    changed = original.map_values(lambda values: values.astype(np.int64) + 1)
    assert changed.values.dtype == np.int32
    assert [row.tolist() for row in changed] == [[value + 1 for value in row] for row in rows]
    assert [row.tolist() for row in original] == rows


def test_a_table_of_several_row_groups_is_read_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 7)
    frame = tiny.sentences(46)
    with files.atomic_folder(tmp_path / "tokenized") as folder:
        tables.write(folder / "train.parquet", tiny.arrow(frame), {})
    sentences = ragged.read_sentences(tmp_path / "tokenized/train.parquet")
    assert [row.tolist() for row in sentences.input_ids] == [ids.tolist() for ids in frame["input_ids"]]
    assert sentences.labels.tolist() == frame["label"].to_list()
    types = (sentences.labels.dtype, sentences.input_ids.values.dtype, sentences.input_ids.starts.dtype)
    assert types == (np.int64, np.int32, np.int64)
