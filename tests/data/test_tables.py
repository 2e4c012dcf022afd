import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from cola.core import files
from cola.core.errors import UserError
from cola.data import tables

SOURCE = {"name": "cola", "files": {"in_domain_train.tsv": "f320"}}
COLUMNS = ["sentence_source", "label", "sentence", "input_ids"]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))
rows_of_any_kind = st.tuples(texts, st.integers(0, 1), texts, st.lists(st.integers(0, 2**31 - 1)))


def write_folder(path, table):
    """Write a folder with `table` as its train.parquet; return the table's path."""
    with files.atomic_folder(path) as folder:
        tables.write(folder / "train.parquet", table, SOURCE)
    return path / "train.parquet"


@settings(max_examples=40)  # every example writes a file
@given(st.lists(rows_of_any_kind, min_size=1))
def test_a_table_comes_back_as_it_was(tmp_path_factory, rows):
    path = write_folder(tmp_path_factory.getbasetemp() / "round", tiny.arrow(pd.DataFrame(rows, columns=COLUMNS)))
    frame = tables.read(path)
    assert [(*row[:3], row[3].tolist()) for row in frame.itertuples(index=False)] == rows
    assert frame.attrs == tables.read_source(path) == SOURCE
    assert tables.count(path) == len(rows)


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16()])
def test_a_table_has_its_schema_and_its_row_groups(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(tables, "ROW_GROUP", 3)
    table = tiny.arrow(tiny.sentences(8))
    table = table.set_column(1, "label", table["label"].cast(kind)).append_column("length", table["label"])
    path = write_folder(tmp_path / "tokenized", table)
    schema = pq.read_schema(path)
    assert schema.names == COLUMNS
    assert schema.types == [pa.string(), kind, pa.string(), pa.list_(pa.int32())]
    assert pq.ParquetFile(path).num_row_groups == 3
    assert tables.read_first_row_group(path)["sentence"].to_list() == table["sentence"].to_pylist()[:3]


def test_a_training_reads_the_ids_and_labels_of_all_row_groups_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 7)
    frame = tiny.sentences(46)
    input_ids, labels = tables.read_sentences(write_folder(tmp_path / "tokenized", tiny.arrow(frame)))
    assert [ids.tolist() for ids in input_ids] == [ids.tolist() for ids in frame["input_ids"]]
    assert labels.tolist() == frame["label"].to_list()
    assert (input_ids[0].dtype, labels.dtype) == (np.int32, np.int64)


@pytest.mark.parametrize("read", [tables.read, tables.read_first_row_group, tables.read_source, tables.read_sentences])
def test_a_missing_or_changed_table_is_refused(tmp_path, read):
    path = write_folder(tmp_path / "tokenized", tiny.arrow(tiny.sentences(2)))
    content = path.read_bytes()
    for position in np.linspace(0, len(content) - 1, 9, dtype=int):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(UserError, match=r"train\.parquet is not as it was written; `dvc repro` puts it right"):
            read(path)
    path.unlink()
    with pytest.raises(UserError, match=r"train\.parquet is missing: `dvc repro` makes it"):
        read(path)
