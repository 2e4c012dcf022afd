import gc

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from cola.core import files, paths
from cola.core.errors import UserError
from cola.data import ragged, tables
from cola.data.ragged import RaggedArray


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "SCRATCH", tmp_path / "scratch")
    return tmp_path / "scratch"


def test_rows_by_hand():
    rows = RaggedArray.from_rows([[101, 7, 102], [101, 102]])
    assert rows.values.tolist() == [101, 7, 102, 101, 102]
    assert rows.starts.tolist() == [0, 3, 5]
    assert rows.lengths.tolist() == [3, 2]
    assert [row.tolist() for row in rows] == [row.tolist() for row in rows[:]] == [[101, 7, 102], [101, 102]]
    assert [row.tolist() for row in rows[1::2]] == [[101, 102]]
    assert RaggedArray.from_rows(rows) is rows


@given(st.lists(st.lists(st.integers(0, 30_000), min_size=1), min_size=1), st.integers(1, 7))
def test_values_are_mapped_block_by_block_on_the_disk(rows, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ragged, "BLOCK_VALUES", block)
        changed = RaggedArray.from_rows(rows).map_values(lambda block: block + 1)
    assert isinstance(changed.values, np.memmap)
    assert [row.tolist() for row in changed] == [[value + 1 for value in row] for row in rows]


def test_a_table_is_read_by_row_groups_and_leaves_no_file(tmp_path, scratch):
    frames = [tiny.sentences(count, seed=count) for count in (5, 1, 40)]
    with files.atomic_folder(tmp_path / "tokenized") as folder:
        tables.write(folder / "train.parquet", map(tiny.arrow, frames), {})
    found = ragged.read_sentences(tmp_path / "tokenized/train.parquet")
    assert [row.tolist() for row in found.input_ids] == [ids.tolist() for frame in frames for ids in frame["input_ids"]]
    assert found.labels.tolist() == [label for frame in frames for label in frame["label"]]
    assert found.labels.dtype == np.int64
    assert list(scratch.iterdir()) == []
    del found
    gc.collect()
    (tmp_path / "tokenized/train.parquet").write_bytes(b"changed")
    with pytest.raises(UserError, match="is not as it was written"):
        ragged.read_sentences(tmp_path / "tokenized/train.parquet")
