import os
import resource
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from cola.core import files
from cola.core.errors import UserError

HISTORY = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.1 + 0.2]})
WRITES = {
    "file.json": partial(files.write_json, value={"mcc": 0.5}),
    "file.csv": partial(files.write_csv, frame=HISTORY),
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
@given(st.lists(st.tuples(texts, st.floats(allow_nan=False, allow_infinity=False)), min_size=1))
def test_a_csv_comes_back_as_it_was(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round.csv"
    rows = [*rows, ("NA", 0.1 + 0.2), ("None", 5e-324), ('"go"', 1e23)]
    files.write_csv(path, pd.DataFrame(rows, columns=["sentence", "probability"]))
    assert list(files.read_csv(path).itertuples(index=False, name=None)) == rows


@pytest.mark.parametrize("names", [["true", "false", "other"], ["1", "2", "x"], ["01", "1e3", "nan"]])
def test_text_of_a_csv_is_never_taken_for_numbers_or_booleans(tmp_path, names):
    """The label that makes pandas read a column as text is in one column alone."""
    table = pd.DataFrame({"label": names, "predicted": [names[0], names[1], names[0]], "source": names})
    table["correct"], table["probability"] = table["label"] == table["predicted"], [0.5, 1.0, 0.75]
    files.write_csv(tmp_path / "predictions.csv", table)
    back = files.read_csv(tmp_path / "predictions.csv")
    for column in ("label", "predicted", "source"):
        assert back[column].to_list() == table[column].to_list()
    assert (back["label"] == back["predicted"]).to_list() == back["correct"].to_list() == [True, True, False]
    assert back["probability"].to_list() == [0.5, 1.0, 0.75]


def test_the_same_content_gives_the_same_bytes_wherever_it_is_written(tmp_path):
    for name, write in WRITES.items():
        write(tmp_path / "one" / name)
        write(tmp_path / "another" / "deeper" / name)
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "another" / "deeper" / name).read_bytes()
    assert listing(tmp_path / "one") == ["file.csv", "file.json"]


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
    reads = (files.read_json, files.read_csv, files.verified)
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
        (folder / "long").write_bytes(bytes(range(256)))
    return path


def test_the_sums_of_a_folder_are_those_of_sha256sum(tmp_path):
    folder = folder_of_two(tmp_path / "raw")
    assert (
        (folder / "SHA256SUMS")
        .read_text()
        .startswith("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  abc\n")
    )
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=True)
    assert checked.stdout == "abc: OK\nlong: OK\n"
    assert files.verified(folder) == folder
    assert files.verified(folder / "abc") == folder / "abc"


def test_any_changed_byte_of_a_file_is_noticed(tmp_path):
    path = folder_of_two(tmp_path / "raw") / "long"
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        for checked in (path, path.parent):
            with pytest.raises(UserError, match=r"long is not as it was written; `dvc repro` puts it right"):
                files.verified(checked)
    assert len(content) == 256
    path.write_bytes(content)
    assert files.verified(path) == path


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
def test_a_file_that_is_not_json_is_named(tmp_path, content):
    (tmp_path / "test.json").write_bytes(content)
    with pytest.raises(UserError, match=r"test\.json is not JSON .*: remove it, and `dvc repro` makes it anew"):
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
