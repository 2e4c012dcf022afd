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


def test_every_file_that_a_tokenizer_of_transformers_names_is_fetched():
    modules = list((Path(transformers.__file__).parent / "models").glob("*/tokenization_*.py"))
    tables = [re.search(r"^VOCAB_FILES_NAMES = (\{[^}]*\})", module.read_text(), re.MULTILINE) for module in modules]
    names = {name for table in tables if table for name in ast.literal_eval(table[1]).values()}
    assert {"vocab.txt", "bpe.codes", "spm.model", "prophetnet.tokenizer"} <= names
    names |= {"config.json", "model.safetensors", "tokenizer_config.json", "chat_template.jinja"}
    assert len(names) > 15
    assert [name for name in names if not checked.is_encoder_file(name)] == []


def test_weights_in_other_forms_code_and_files_of_subfolders_are_not_fetched():
    names = (
        "model-00001-of-00002.safetensors model.safetensors.index.json pytorch_model.bin Model.ONNX training_args.bin "
        "modeling_own.py README.md config.json~ .gitattributes onnx/config.json ../vocab.txt ..\\vocab.txt SHA256SUMS "
        "source.json"
    ).split()
    assert len(names) == 14
    assert [name for name in names if checked.is_encoder_file(name)] == []


CONTENT = bytes(range(256)) * 8  # 2,048 bytes, which every method can pack
EXPECTED = {"a.txt": File(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))}


def pack(member="in/a.txt", content=CONTENT, method=zipfile.ZIP_DEFLATED, mode=0):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        info = zipfile.ZipInfo(member)
        info.compress_type, info.external_attr = method, mode << 16
        file.writestr(info, content)
    return archive.getvalue()


def spoil(archive, start, *values):
    """The archive with other bytes from the offset `start` on."""
    return archive[:start] + bytes(values) + archive[start + len(values) :]


ENTRY = pack().rindex(b"PK\1\2")  # the offset of the member's entry in the zip's directory; its flags are 8 bytes on
DATA = 30 + len("in/a.txt")  # where the member's bytes begin
HOSTILE = {
    "no such member": pack("other"),
    "outside": pack("../in/a.txt"),
    "other bytes": pack(content=bytes(2048)),
    "bomb": pack(content=bytes(50_000_000)),
    "symbolic link": pack(content=b"/etc/passwd", mode=stat.S_IFLNK | 0o777),
    "no zip": b"no zip",
    "deflate": spoil(pack(), DATA + 5, *[255] * 90),
    "bzip2": spoil(pack(method=zipfile.ZIP_BZIP2), DATA + 20, *[255] * 90),
    "LZMA data": spoil(pack(method=zipfile.ZIP_LZMA), DATA + 12, *[255] * 90),
    "LZMA properties": spoil(pack(method=zipfile.ZIP_LZMA), DATA + 4, 255),
    "encrypted": spoil(pack(), ENTRY + 8, 1),
    "two names": spoil(pack(), 30, *b"in/b.txt"),
    "method": spoil(pack(), ENTRY + 10, 99),
    "offset": spoil(pack(), ENTRY + 42, 255, 255, 255, 127),
}


@pytest.mark.parametrize("archive", HOSTILE.values(), ids=HOSTILE)
def test_a_zip_is_not_trusted(tmp_path, archive):
    (tmp_path / "out").mkdir()
    (tmp_path / "a.zip").write_bytes(archive)
    refusal = r"^a.zip: in/a.txt is refused: it is not the expected file, of 2048 bytes"
    with pytest.raises(WrongFileError, match=refusal):
        checked.extract(tmp_path / "a.zip", "in/", EXPECTED, tmp_path / "out")
    assert {path.name for path in tmp_path.rglob("*")} == {"out", "a.zip"}


def test_a_zip_of_every_method_is_read(tmp_path):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        (tmp_path / "a.zip").write_bytes(pack(method=method))
        (tmp_path / str(method)).mkdir()
        checked.extract(tmp_path / "a.zip", "in/", EXPECTED, tmp_path / str(method))
        assert (tmp_path / str(method) / "a.txt").read_bytes() == CONTENT
