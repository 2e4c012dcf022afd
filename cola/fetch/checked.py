"""Files that are used only if they are the expected ones: size and hash are checked before anything reads them."""

import hashlib
import shutil
import zipfile
from pathlib import Path, PurePath

from cola.core import files
from cola.fetch.sources import File
from cola.fetch.transfers import WrongFileError

HOW_TO_SAVE = '"Another encoder" in docs/guide.md shows how to save it for this project'
GIT_DIGITS = 40  # of a hash by git
# Of configs and of all tokenizers' files. Other weights, pickles, code and data have other suffixes.
_SUFFIXES = frozenset(".codes .jinja .json .model .spm .tiktoken .tokenizer .txt .vocab".split())
# This project writes the first beside an encoder. The second lists weights in several files.
_OTHER_ENDINGS = ("source.json", ".index.json")


def is_encoder_file(name: str) -> bool:
    """Whether a file of an encoder's repository or folder is fetched: model.safetensors, a config, a tokenizer's file.

    `name` is the file's path in the repository. Tokenizers use many names, and few suffixes.
    """
    if name == "model.safetensors":
        return True
    in_subfolder = name.startswith(".") or "/" in name or "\\" in name
    return PurePath(name).suffix in _SUFFIXES and not in_subfolder and not name.endswith(_OTHER_ENDINGS)


def is_expected(path: Path, expected: File) -> bool:
    """Whether a file has the expected size and hash."""
    if path.stat().st_size != expected.bytes:
        return False
    if len(expected.hash) != GIT_DIGITS:
        return files.hash_file(path) == expected.hash
    blob = b"blob %d\0" % expected.bytes + path.read_bytes()
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == expected.hash


def extract(path: Path, prefix: str, expected: dict[str, File], folder: Path) -> None:
    """Write the members `prefix` + file of a zip to `folder`/file. Raises WrongFileError as read_member."""
    for file, content in expected.items():
        (folder / file).write_bytes(read_member(path, prefix + file, content))


def read_member(path: Path, name: str, expected: File) -> bytes:
    """The content of a member of a zip. Raises WrongFileError where it is missing or not as expected."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(name).file_size == expected.bytes:  # a bomb is not unpacked
                content = archive.read(name)
                if hashlib.sha256(content).hexdigest() == expected.hash:
                    return content
    except Exception as error:  # a spoiled zip makes zipfile and the decompressors raise anything
        raise make_refusal(f"{path.name}: {name}", expected) from error
    raise make_refusal(f"{path.name}: {name}", expected)


def copy(path: Path, expected: File, folder: Path, shown: str) -> None:
    """Copy a file into `folder`. Raises WrongFileError, which calls it `shown`, unless it is as expected."""
    if not is_expected(path, expected):
        raise make_refusal(shown, expected)
    shutil.copyfile(path, folder / path.name)


def make_refusal(shown: str, expected: File) -> WrongFileError:
    return WrongFileError(
        f"{shown} is refused: it is not the expected file, of {expected.bytes} bytes and with the hash {expected.hash}"
    )
