import io
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import small_disk
from safetensors.numpy import save_file

from cola.core import files
from cola.core.errors import UserError

HISTORY = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.1 + 0.2]})
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def read_listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_json_is_indented_and_keeps_its_letters(tmp_path):
    value = {"mcc": 0.25, "name": "naïve"}
    files.write_json(tmp_path / "deep" / "test.json", value)
    assert (tmp_path / "deep" / "test.json").read_bytes() == '{\n  "mcc": 0.25,\n  "name": "naïve"\n}\n'.encode()
    assert files.read_json(tmp_path / "deep" / "test.json") == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), pd.Timestamp(0)])
def test_a_value_that_json_lacks_is_refused_and_the_old_file_stays(tmp_path, value):
    (tmp_path / "file.json").write_text("old")
    with pytest.raises((ValueError, TypeError)):
        files.write_json(tmp_path / "file.json", {"mcc": value})
    assert read_listing(tmp_path) == ["file.json"]
    assert (tmp_path / "file.json").read_text() == "old"


@settings(max_examples=40)  # every example writes a file
@given(st.lists(st.tuples(texts, st.floats(allow_nan=False, allow_infinity=False)), min_size=1))
def test_a_csv_comes_back_as_it_was(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round.csv"
    rows = [*rows, ("NA", 0.1 + 0.2), ("None", 5e-324), ('"go"', 1e23), ("a\rb", 1.0)]
    files.write_csv(path, HISTORY)
    assert path.read_bytes() == b"epoch,loss\n1,0.5\n2,0.30000000000000004\n"
    files.write_csv(path, pd.DataFrame(rows, columns=["sentence", "probability"]))
    for source in (path, io.StringIO(path.read_bytes().decode(), newline="")):  # as from a DVC revision
        assert list(files.read_csv(source).itertuples(index=False, name=None)) == rows


@pytest.mark.parametrize("names", [["true", "false", "other"], ["1", "2", "x"], ["01", "1e3", "nan"]])
def test_a_csv_keeps_text_that_looks_like_numbers_or_booleans(tmp_path, names):
    """The column predicted lacks the label that would make pandas read the others as text."""
    table = pd.DataFrame({"label": names, "predicted": [names[0], names[1], names[0]], "source": names})
    files.write_csv(tmp_path / "predictions.csv", table)
    assert files.read_csv(tmp_path / "predictions.csv").to_dict("list") == table.to_dict("list")


def test_a_killed_write_leaves_the_old_content_and_the_next_write_tidies_up(tmp_path):
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
    assert read_listing(tmp_path) == ["test.json"]
    assert files.read_json(path) == {"mcc": 0.5}


@pytest.mark.parametrize("read", [files.read_json, files.read_csv, files.verify])
def test_a_missing_file_is_named_with_the_command_that_makes_it(tmp_path, read):
    with pytest.raises(UserError, match=r"file is missing: `dvc repro` makes it$"):
        read(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_file_that_is_not_json_is_named(tmp_path, content):
    (tmp_path / "test.json").write_bytes(content)
    with pytest.raises(
        UserError,
        match=r"test\.json is not JSON .*: remove it, and run the command that wrote it again, such as `dvc repro`",
    ):
        files.read_json(tmp_path / "test.json")


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "data" / "raw"
    with files.atomic_folder(path) as folder:
        (folder / "old").write_text("1")
        assert not path.exists(), "nothing is there before all is"
    with suppress(KeyboardInterrupt), files.atomic_folder(path) as folder:
        (folder / "half").write_text("2")
        raise KeyboardInterrupt
    assert (read_listing(path.parent), read_listing(path)) == (["raw"], ["SHA256SUMS", "old"])
    folder.mkdir()
    (folder / "half").write_text("2")  # a killed run leaves this
    with files.atomic_folder(path) as folder:
        (folder / "new").write_text("3")
    assert (read_listing(path.parent), read_listing(path)) == (["raw"], ["SHA256SUMS", "new"])


@pytest.fixture
def folder(tmp_path):
    """A folder of two files, abc and long."""
    with files.atomic_folder(tmp_path / "raw") as partial:
        (partial / "abc").write_bytes(b"abc")
        (partial / "long").write_bytes(bytes(range(256)))
    return tmp_path / "raw"


def test_the_sums_of_a_folder_are_those_of_sha256sum(folder):
    first = (folder / "SHA256SUMS").read_text().splitlines()[0]
    assert first == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  abc"  # FIPS 180-2, B.1
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=True)
    assert checked.stdout == "abc: OK\nlong: OK\n"
    assert files.verify(folder) == folder
    assert files.verify(folder / "abc") == folder / "abc"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda folder: (folder / "abc").unlink(), "abc is not as it was written; `dvc repro` puts it right$"),
        (lambda folder: (folder / "new").touch(), "new is not as it was written"),
        (lambda folder: (folder / "long").write_bytes(bytes(range(255)) + b"\xfe"), "long is not as it was written"),
        (lambda folder: (folder / "abc").write_bytes(b"ab"), "abc is not as it was written"),
        (lambda folder: (folder / "SHA256SUMS").write_bytes(b""), "abc is not as it was written"),
        (lambda folder: (folder / "new").mkdir(), "new does not belong to .*raw: remove it$"),
    ],
    ids=["a missing file", "a new file", "a bit", "a byte less", "no sums", "a new folder"],
)
def test_any_change_in_a_folder_is_noticed(folder, change, fault):
    change(folder)
    with pytest.raises(UserError, match=f"raw/{fault}"):
        files.verify(folder)


def test_dvc_and_the_check_ignore_the_files_that_editors_and_desktops_leave(folder):
    (folder / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", ".abc.swp", "abc~", "desktop.ini", "Thumbs.db"):
        (folder / name).touch()
    (folder / ".#abc").symlink_to("me@host.1:2")
    assert files.verify(folder) == folder
    shutil.copy(Path(__file__).parents[2] / ".dvcignore", folder.parent)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder.parent, check=True)
    names = [f"raw/{path.name}" for path in folder.iterdir()]
    check = [sys.executable, "-m", "dvc", "check-ignore", *names]
    ignored = subprocess.run(check, cwd=folder.parent, capture_output=True, text=True, check=True).stdout.split()
    assert set(names) - set(ignored) == {"raw/abc", "raw/long", "raw/SHA256SUMS"}


def save_weights(path):
    with files.atomic_file(path) as partial:
        save_file({"weights": np.zeros(100)}, partial)


@pytest.mark.parametrize(
    "write",
    [lambda path: files.write_json(path, {"mcc": 0.5}), lambda path: files.write_csv(path, HISTORY), save_weights],
    ids=["json", "csv", "safetensors"],
)
def test_a_full_disk_is_named_in_one_line_and_the_old_file_stays(tmp_path, write):
    path = tmp_path / "file"
    path.write_text("old")
    with small_disk(10), pytest.raises(UserError) as error:
        write(path)
    assert str(error.value) == f"{path} cannot be written: File too large; fix that and run this again"
    assert read_listing(tmp_path) == ["file"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("path", "read", "fault"),
    [
        ("file/raw", "file", "file/raw cannot be written: Not a directory; fix that and run this again"),
        ("raw", "folder", "folder cannot be read: Is a directory; fix that and run this again"),
        ("raw", "x" * 300, "x cannot be read: File name too long; fix that and run this again"),
    ],
)
def test_an_error_of_the_system_names_the_path_that_it_concerns(tmp_path, path, read, fault):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"{fault}$"), files.atomic_folder(tmp_path / path):
        (tmp_path / read).read_text()
    assert read_listing(tmp_path) == ["file", "folder"]


def test_an_error_that_quotes_the_system_stays_as_it_is(tmp_path):
    with pytest.raises(UserError, match=r"^no header \(os error 5\)$"), files.atomic_file(tmp_path / "file"):
        raise UserError("no header (os error 5)")


def test_a_copy_that_cannot_be_written_does_not_blame_the_file_that_is_read(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1000))
    fault = "raw cannot be written: File too large"
    with small_disk(10), pytest.raises(UserError, match=fault), files.atomic_folder(tmp_path / "raw") as folder:
        shutil.copyfile(tmp_path / "file", folder / "copy")
