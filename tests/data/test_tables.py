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
from cola.data import ragged, tables

TOKENIZED = pd.DataFrame(
    {
        "sentence_source": ["gj04", "clc95"],
        "label": [1, 0],
        "sentence": ['He said "go".', "naïve 日本"],
        "input_ids": [[101, 2002, 102], [101, 102]],
    }
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))
rows_of_any_kind = st.tuples(texts, st.integers(0, 1), texts, st.lists(st.integers(0, 2**31 - 1)))


def write_folder(path, table, source):
    """A folder with `table` as its train.parquet; returns the table's path."""
    with files.atomic_folder(path) as folder:
        tables.write(folder / "train.parquet", table, source)
    return path / "train.parquet"


def test_a_table_has_its_schema_its_row_groups_and_its_source(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 3)
    source, table = {"name": "cola", "files": {"in_domain_train.tsv": "f320"}}, tiny.arrow(TOKENIZED)
    twice = pa.concat_tables([table, table])
    path = write_folder(tmp_path / "tokenized", twice.append_column("more", twice["label"]), source)
    back = tables.read(path)
    assert back.attrs == tables.read_source(path) == source
    assert back["sentence"].to_list() == ['He said "go".', "naïve 日本"] * 2
    assert [ids.tolist() for ids in back["input_ids"]] == [[101, 2002, 102], [101, 102]] * 2
    assert pq.ParquetFile(path).num_row_groups == 2
    schema = pq.read_schema(path)
    assert schema.names == ["sentence_source", "label", "sentence", "input_ids"]
    assert schema.types == [pa.string(), pa.int8(), pa.string(), pa.list_(pa.int32())]


def test_the_first_row_group_is_read_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 3)
    sentences = tiny.sentences(8)
    path = write_folder(tmp_path / "tokenized", tiny.arrow(sentences), {})
    assert tables.read_first_row_group(path)["sentence"].to_list() == sentences["sentence"][:3].to_list()


@settings(max_examples=40)  # every example writes a file
@given(st.lists(rows_of_any_kind, min_size=1))
def test_rows_come_back_as_they_were(tmp_path_factory, rows):
    table = tiny.arrow(pd.DataFrame(rows, columns=TOKENIZED.columns))
    back = tables.read(write_folder(tmp_path_factory.getbasetemp() / "round", table, {}))
    assert [(*row[:3], row[3].tolist()) for row in back.itertuples(index=False)] == rows


def test_a_label_keeps_its_type_and_a_table_of_other_columns_is_refused(tmp_path):
    wide = pa.Table.from_pandas(TOKENIZED.assign(label=np.array([300, 0], np.int16)))
    path = write_folder(tmp_path / "tokenized", wide, {})
    assert tables.read(path)["label"].to_list() == [300, 0]
    assert pq.read_schema(path).field("label").type == pa.int16()
    with pytest.raises(KeyError):
        tables.write(tmp_path / "train.parquet", tiny.arrow(TOKENIZED).drop("sentence"), {})
    assert not (tmp_path / "train.parquet").exists()


@pytest.mark.parametrize("read", [tables.read, tables.read_first_row_group, tables.read_source, ragged.read_sentences])
def test_a_missing_or_changed_table_is_refused(tmp_path, read):
    path = write_folder(tmp_path / "tokenized", tiny.arrow(TOKENIZED), {})
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 9, dtype=int):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"train\.parquet is not as it was written; `dvc repro` puts it right"):
            read(path)
    path.unlink()
    with pytest.raises(UserError, match=r"train\.parquet is missing: `dvc repro` makes it"):
        read(path)
