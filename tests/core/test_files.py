import os
import resource
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from cola.core import files
from cola.core.errors import UserError
from cola.data import tables

TOKENIZED = pd.DataFrame(
    {
        "sentence_source": ["gj04", "clc95"],
        "label": [1, 0],
        "sentence": ['He said "go".', "naïve 日本"],
        "input_ids": [[101, 2002, 102], [101, 102]],
    }
)
HISTORY = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.1 + 0.2]})
WRITES = {
    "file.json": partial(files.write_json, value={"mcc": 0.5}),
    "file.csv": partial(files.write_csv, frame=HISTORY),
    "file.parquet": partial(tables.write, tables=[tiny.arrow(TOKENIZED)], source={}),
}
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_json_is_indented_and_keeps_letters_as_they_are(tmp_path):
    files.write_json(tmp_path / "deep" / "test.json", {"mcc": 0.25, "who": "naïve"})
    assert (tmp_path / "deep" / "test.json").read_bytes() == '{\n  "mcc": 0.25,\n  "who": "naïve"\n}\n'.encode()


@settings(max_examples=40)  # each writes a file
@given(plain)
def test_json_comes_back_as_it_was(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "round.json"
    files.write_json(path, value)
    assert files.read_json(path) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {1, 2}, pd.Timestamp(0)])
def test_what_json_cannot_hold_is_refused_and_the_old_file_kept(tmp_path, value):
    (tmp_path / "file.json").write_text("old")
    with pytest.raises((ValueError, TypeError)):
        files.write_json(tmp_path / "file.json", {"mcc": value})
    assert listing(tmp_path) == ["file.json"]
    assert (tmp_path / "file.json").read_text() == "old"


def test_csv_has_every_digit_and_plain_line_ends(tmp_path):
    files.write_csv(tmp_path / "history.csv", HISTORY)
    assert (tmp_path / "history.csv").read_bytes() == b"epoch,loss\n1,0.5\n2,0.30000000000000004\n"


@settings(max_examples=40)  # each writes a file
@given(st.lists(texts.filter(len), min_size=1))
def test_csv_sentences_come_back_as_they_were(tmp_path_factory, sentences):
    path = tmp_path_factory.getbasetemp() / "round.csv"
    files.write_csv(path, pd.DataFrame({"sentence": [*sentences, "NA", "None", '"go"'], "label": 1}))
    assert pd.read_csv(path, keep_default_na=False)["sentence"].to_list() == [*sentences, "NA", "None", '"go"']


def test_parquet_has_its_schema_and_its_provenance(tmp_path):
    source, table = {"name": "cola", "files": {"in_domain_train.tsv": "f320"}}, tiny.arrow(TOKENIZED)
    with files.atomic_folder(tmp_path / "tokenized") as folder:
        tables.write(folder / "train.parquet", [table, table.append_column("more", table["label"])], source)
    path = tmp_path / "tokenized/train.parquet"
    back = tables.read(path)
    assert back.attrs == tables.read_source(path) == source
    assert back["sentence"].to_list() == ['He said "go".', "naïve 日本"] * 2
    assert [ids.tolist() for ids in back["input_ids"]] == [[101, 2002, 102], [101, 102]] * 2
    assert tables.read_first_row_group(path)["sentence"].to_list() == ['He said "go".', "naïve 日本"]
    assert tables.shortest_sentence(path) == "naïve 日本"
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 2
    schema = pyarrow.parquet.read_schema(path)
    assert schema.names == ["sentence_source", "label", "sentence", "input_ids"]
    assert schema.types == [pa.string(), pa.int8(), pa.string(), pa.list_(pa.int32())]


rows = st.tuples(texts, st.integers(0, 1), texts, st.lists(st.integers(0, 2**31 - 1)))


@settings(max_examples=40)  # each writes a file
@given(st.lists(rows, min_size=1))
def test_parquet_rows_come_back_as_they_were(tmp_path_factory, rows):
    with files.atomic_folder(tmp_path_factory.getbasetemp() / "round") as folder:
        tables = [tiny.arrow(pd.DataFrame(rows, columns=TOKENIZED.columns))]
        tables.write(folder / "train.parquet", tables, {})
    back = tables.read(folder.with_name("round") / "train.parquet")
    assert [(*row[:3], row[3].tolist()) for row in back.itertuples(index=False)] == rows


@pytest.mark.parametrize("frame", [TOKENIZED.drop(columns="label"), TOKENIZED.assign(label=300)])
def test_parquet_refuses_what_is_not_a_table_of_tokenized_sentences(tmp_path, frame):
    with pytest.raises((KeyError, pa.ArrowInvalid)):
        tables.write(tmp_path / "train.parquet", [pa.Table.from_pandas(frame)], {})
    assert listing(tmp_path) == []


def test_the_same_content_gives_the_same_bytes_wherever_it_is_written(tmp_path):
    for name, write in WRITES.items():
        write(tmp_path / "here" / name)
        write(tmp_path / "there" / "deeper" / name)
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / "deeper" / name).read_bytes()
    assert listing(tmp_path / "here") == ["file.csv", "file.json", "file.parquet"]


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_content_or_nothing(tmp_path, monkeypatch, name, fault):
    def interrupted(_):
        raise fault

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(type(fault)):
        WRITES[name](tmp_path / name)
    assert listing(tmp_path) == []
    (tmp_path / name).write_text("old")
    with pytest.raises(type(fault)):
        WRITES[name](tmp_path / name)
    assert listing(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "old"


def test_a_killed_write_leaves_the_old_content_and_the_next_one_tidies_up(tmp_path):
    path = tmp_path / "test.json"
    path.write_text("old")
    code = (
        "import os, pathlib, sys\nfrom cola.core import files\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "files.write_json(pathlib.Path(sys.argv[1]), {'mcc': 0.5})"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    assert path.read_text() == "old"
    files.write_json(path, {"mcc": 0.5})
    assert listing(tmp_path) == ["test.json"]
    assert files.read_json(path) == {"mcc": 0.5}


def test_a_missing_file_is_named_with_what_makes_it(tmp_path):
    reads = (files.read_json, files.read_csv, tables.read)
    for read in reads:
        with pytest.raises(UserError) as error:
            read(tmp_path / "file")
        assert str(error.value) == f"{tmp_path / 'file'} is missing: `dvc repro` makes it"
    assert len(reads) == 3


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path):
    path = tmp_path / "data" / "raw"
    with files.atomic_folder(path) as folder:
        (folder / "one").write_text("1")
        assert not path.exists(), "nothing is there before all is"
    with files.atomic_folder(path) as folder:
        (folder / "two").write_text("2")
        assert listing(path) == ["SHA256SUMS", "one"]
    assert listing(path) == ["SHA256SUMS", "two"]
    assert listing(path.parent) == ["raw"]


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_folder_leaves_the_old_one_or_nothing(tmp_path, fault):
    path = tmp_path / "raw"

    def interrupted():
        with files.atomic_folder(path) as folder:
            (folder / "half").write_text("x")
            raise fault

    with pytest.raises(type(fault)):
        interrupted()
    assert listing(tmp_path) == []
    path.mkdir()
    (path / "old").write_text("x")
    with pytest.raises(type(fault)):
        interrupted()
    assert listing(tmp_path) == ["raw"]
    assert listing(path) == ["old"]


def test_what_a_killed_run_left_of_a_folder_is_not_taken_over(tmp_path):
    with files.atomic_folder(tmp_path / "raw") as folder:
        partial_name = folder.name
    stale = tmp_path / partial_name
    stale.mkdir()
    (stale / "half").write_text("x")
    with files.atomic_folder(tmp_path / "raw") as folder:
        (folder / "whole").write_text("x")
    assert listing(tmp_path) == ["raw"]
    assert listing(tmp_path / "raw") == ["SHA256SUMS", "whole"]


def test_sha256_of_known_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "empty").write_bytes(b"")
    assert files.sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def folder_of_two(path):
    with files.atomic_folder(path) as folder:
        (folder / "abc").write_bytes(b"abc")
        tables.write(folder / "train.parquet", [tiny.arrow(TOKENIZED)], {})
    return path


def test_the_sums_of_a_folder_are_those_of_sha256sum(tmp_path):
    folder = folder_of_two(tmp_path / "raw")
    assert (
        (folder / "SHA256SUMS")
        .read_text()
        .startswith("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  abc\n")
    )
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=True)
    assert checked.stdout == "abc: OK\ntrain.parquet: OK\n"
    assert files.verified(folder) == folder
    assert files.verified(folder / "abc") == folder / "abc"


def test_any_changed_byte_of_a_table_is_noticed(tmp_path):
    path = folder_of_two(tmp_path / "tokenized") / "train.parquet"
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match=r"train\.parquet is not as it was written; `dvc repro` puts it right"):
            tables.read(path)
    assert len(content) > 1000
    path.write_bytes(content)
    assert tables.read(path)["sentence"].equals(TOKENIZED["sentence"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "abc").unlink(), "abc"),
        (lambda folder: (folder / "another").touch(), "another"),
        (lambda folder: (folder / "abc").write_bytes(b"abd"), "abc"),
        (lambda folder: (folder / "SHA256SUMS").write_bytes(b""), "abc"),
    ],
    ids=["a file is gone", "a file came", "a byte", "no sums"],
)
def test_any_change_in_a_folder_is_noticed(tmp_path, change, named):
    folder = folder_of_two(tmp_path / "raw")
    change(folder)
    with pytest.raises(UserError, match=f"raw/{named} is not as it was written"):
        files.verified(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_what_is_no_json_is_named(tmp_path, content):
    (tmp_path / "test.json").write_bytes(content)
    with pytest.raises(UserError, match=r"test\.json is no JSON .*: remove it, and `dvc repro` makes it anew"):
        files.read_json(tmp_path / "test.json")


def save_weights(path):
    with files.atomic_file(path) as partial:
        save_file({"weights": np.zeros(100)}, partial)


@pytest.mark.parametrize("write", [*WRITES.values(), save_weights], ids=[*WRITES, "file.safetensors"])
def test_a_disk_that_takes_no_more_is_named_in_one_line_and_the_old_file_kept(tmp_path, write):
    path = tmp_path / "file"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))  # bytes; Python has the signal ignored
    try:
        with pytest.raises(UserError) as error:
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(error.value) == f"{path} cannot be written: File too large; mend that and run `dvc repro`"
    assert listing(tmp_path) == ["file"]
    assert path.read_text() == "old"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "data").touch()  # a file is where the folder should be
    with (
        pytest.raises(UserError, match=r"data/raw cannot be written: Not a directory"),
        files.atomic_folder(tmp_path / "data" / "raw"),
    ):
        pass
    with pytest.raises(UserError, match=r"data/test.json cannot be written: "):
        files.write_json(tmp_path / "data" / "test.json", {})
