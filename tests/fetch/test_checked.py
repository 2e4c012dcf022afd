"""cola.fetch.checked: which files are fetched, and zips that are not trusted."""

import ast
import hashlib
import io
import re
import stat
import zipfile
from pathlib import Path

import pytest
import transformers

from cola.fetch import checked
from cola.fetch.sources import File
from cola.fetch.transfers import WrongFileError


def test_every_file_that_a_tokenizer_of_transformers_names_is_an_encoders():
    modules = list((Path(transformers.__file__).parent / "models").glob("*/tokenization_*.py"))
    tables = [re.search(r"^VOCAB_FILES_NAMES = (\{[^}]*\})", module.read_text(), re.MULTILINE) for module in modules]
    names = {name for table in tables if table for name in ast.literal_eval(table[1]).values()}
    assert len(names) > 15
    assert {"vocab.txt", "bpe.codes", "spm.model", "prophetnet.tokenizer"} <= names
    assert [name for name in names if not checked.is_encoder_file(name)] == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer_config.json", "chat_template.jinja"])
def test_files_of_an_encoder(name):
    assert checked.is_encoder_file(name)


@pytest.mark.parametrize(
    "name",
    "model-00001-of-00002.safetensors model.safetensors.index.json pytorch_model.bin Model.ONNX training_args.bin "
    "modeling_own.py README.md .gitattributes onnx/config.json ../vocab.txt ..\\vocab.txt SHA256SUMS "
    "source.json".split(),
)
def test_weights_in_other_forms_code_and_other_folders_are_not(name):
    assert not checked.is_encoder_file(name)


CONTENT = bytes(range(256)) * 8  # 2,048 bytes, which every method can pack
EXPECTED = {"a.txt": File(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))}


def packed(member="in/a.txt", content=CONTENT, method=zipfile.ZIP_DEFLATED, mode=0):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        info = zipfile.ZipInfo(member)
        info.compress_type, info.external_attr = method, mode << 16
        made.writestr(info, content)
    return archive.getvalue()


def spoiled(archive, at, *values):
    """The archive with other bytes from an offset on, or after the last occurrence of a text."""
    start = at if isinstance(at, int) else archive.rindex(at) + len(at)
    return archive[:start] + bytes(values) + archive[start + len(values) :]


DIRECTORY = b"PK\1\2"  # begins the entry of a member in the zip's directory; flags are 4 bytes after it
DATA = 30 + len("in/a.txt")  # where the member's bytes begin


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(packed("other"), id="no such member"),
        pytest.param(packed("../in/a.txt"), id="outside"),
        pytest.param(packed("/in/a.txt"), id="absolute"),
        pytest.param(packed(content=bytes(2048)), id="other bytes"),
        pytest.param(packed(content=bytes(50_000_000)), id="bomb"),
        pytest.param(packed(content=b"/etc/passwd", mode=stat.S_IFLNK | 0o777), id="symbolic link"),
        pytest.param(b"no zip", id="no zip"),
        pytest.param(spoiled(packed(), DATA + 5, *[255] * 90), id="deflate"),
        pytest.param(spoiled(packed(method=zipfile.ZIP_BZIP2), DATA + 20, *[255] * 90), id="bzip2"),
        pytest.param(spoiled(packed(method=zipfile.ZIP_LZMA), DATA + 12, *[255] * 90), id="LZMA data"),
        pytest.param(spoiled(packed(method=zipfile.ZIP_LZMA), DATA + 4, 255), id="LZMA properties"),
        pytest.param(spoiled(spoiled(packed("in/\xff.txt"), DIRECTORY, 20, 0, 20, 0, 0, 8), b"in/", 255), id="UTF-8"),
        pytest.param(spoiled(packed(), DIRECTORY, 20, 0, 20, 0, 1, 0), id="encrypted"),
        pytest.param(spoiled(packed(), 30, *b"in/b.txt"), id="two names"),
        pytest.param(spoiled(packed(), DIRECTORY, 20, 0, 20, 0, 0, 0, 99), id="method"),
        pytest.param(spoiled(packed(), packed().rindex(DIRECTORY) + 42, 255, 255, 255, 127), id="offset"),
    ],
)
def test_zip_is_not_trusted(tmp_path, archive):
    (tmp_path / "out").mkdir()
    (tmp_path / "a.zip").write_bytes(archive)
    with pytest.raises(
        WrongFileError, match=r"^a.zip: in/a.txt is refused: it is not the expected file, of 2048 bytes"
    ):
        checked.extract(tmp_path / "a.zip", "in/", EXPECTED, tmp_path / "out")
    assert {path.name for path in tmp_path.rglob("*")} == {"out", "a.zip"}


def test_zip_of_every_method_is_read(tmp_path):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        (tmp_path / "a.zip").write_bytes(packed(method=method))
        (tmp_path / str(method)).mkdir()
        checked.extract(tmp_path / "a.zip", "in/", EXPECTED, tmp_path / str(method))
        assert (tmp_path / str(method) / "a.txt").read_bytes() == CONTENT
