import numpy as np
import tiny
from hypothesis import given
from hypothesis import strategies as st

from cola.core import files
from cola.data import ragged, tables
from cola.data.ragged import RaggedArray


@given(st.lists(st.lists(st.integers(0, 30_000), min_size=1), min_size=1), st.slices(5))
def test_an_array_has_the_rows_that_it_was_made_from(rows, part):
    array = RaggedArray.from_rows(rows)
    assert [row.tolist() for row in array] == rows
    assert [row.tolist() for row in array[part]] == rows[part]
    assert array.lengths.tolist() == list(map(len, rows))
    changed = array.map_values(lambda values: values.astype(np.int64) + 1)
    assert changed.values.dtype == np.int32
    assert [row.tolist() for row in changed] == [[value + 1 for value in row] for row in rows]
    assert [row.tolist() for row in array] == rows


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
