"""Files that are used only if they are the expected ones: size and hash are checked before anything reads them."""

import hashlib
import shutil
import zipfile
import zlib
from pathlib import Path, PurePath

from cola.core import files
from cola.core.errors import UserError
from cola.fetch.sources import File

CHUNK_BYTES = 1 << 16
GIT_DIGITS = 40  # of a hash: git's
ZIP_ERRORS = (KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)


# Weights in another form than safetensors, pickles, code, data and documents.
_OTHER_SUFFIXES = frozenset(
    ".bin .ckpt .csv .gguf .gz .h5 .index .ipynb .joblib .jpg .log .md .meta .mlmodel .msgpack .npy .npz .onnx "
    ".onnx_data .ot .parquet .pb .pdf .pickle .pkl .png .pt .pth .py .safetensors .sh .so .tar .tflite .tsv "
    ".zip".split()
)
# The first two are written beside an encoder by this project; the last lists weights that are in several files.
_OTHER_ENDINGS = (files.CHECKSUMS, "source.json", ".index.json")


class ProviderError(Exception):
    """A provider lacks a file or cannot be reached; the message says which provider, and why."""


def is_encoder_file(name: str) -> bool:
    """Whether a file of an encoder's repository or folder is fetched: model.safetensors, a config, a tokenizer's file.

    `name` is its path in there. Whatever is not weights, code, data or a document may be a tokenizer's: each kind of
    tokenizer has names of its own.
    """
    if name == "model.safetensors":
        return True
    elsewhere = name.startswith(".") or "/" in name or "\\" in name
    return not (elsewhere or PurePath(name).suffix.lower() in _OTHER_SUFFIXES or name.endswith(_OTHER_ENDINGS))


def extract(path: Path, prefix: str, expected: dict[str, File], folder: Path) -> None:
    """Move the members `prefix` + file of a zip to `folder`: no name in the zip decides where anything is written.

    They are unpacked beside the zip first. Raises UserError where a member is missing or not as expected.
    """
    for file, content in expected.items():
        shown, unpacked = f"{path.name}: {prefix}{file}", path.parent / file
        try:
            with zipfile.ZipFile(path) as archive, archive.open(prefix + file) as member, unpacked.open("wb") as target:
                for start in range(0, content.bytes + 1, CHUNK_BYTES):  # a byte more tells that it is longer
                    target.write(member.read(min(CHUNK_BYTES, content.bytes + 1 - start)))
        except ZIP_ERRORS:
            raise refusal(shown, content) from None
        verify(unpacked, content, shown)
        shutil.move(unpacked, folder / file)


def copy(path: Path, expected: File, folder: Path, shown: str) -> None:
    """Copy a file into `folder` if it is the expected one. Raises UserError, which calls it `shown`, if not."""
    verify(path, expected, shown)
    shutil.copyfile(path, folder / path.name)


def verify(path: Path, expected: File, shown: str) -> None:
    """Raise UserError, which calls the file `shown`, where its size or its hash is not the expected one."""
    if path.stat().st_size == expected.bytes:
        if len(expected.hash) == GIT_DIGITS:
            blob = b"blob %d\0" % expected.bytes + path.read_bytes()
            actual = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        else:
            actual = files.sha256(path)
        if actual == expected.hash:
            return
    raise refusal(shown, expected)


def refusal(shown: str, expected: File) -> UserError:
    return UserError(
        f"{shown} is refused: it is not the expected file, of {expected.bytes} bytes and with the hash "
        f"{expected.hash}. Put the right one there, remove it, or set COLA_MIRROR to a folder that has it"
    )
