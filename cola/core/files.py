"""Files between stages: a write is complete or absent, and a reader refuses a file whose bytes have changed."""

import csv
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cola.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

CHECKSUMS = "SHA256SUMS"
# The columns of text in the files that write_csv writes. pandas would guess their type from the values: the labels true
# and false would become booleans.
TEXT_COLUMNS = ("sentence_source", "sentence", "label", "predicted", "source", "publication")
# Files that editors and desktops leave behind; they are no content of a folder. .dvcignore has the same names.
NO_CONTENT = re.compile(r"\..*|.*~|desktop\.ini|Thumbs\.db|__pycache__")
STALE_AFTER = 7 * 24 * 3600  # seconds; older scratch files of interrupted runs are deleted


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write plain data as indented JSON. Raises ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError where the file is missing or is not JSON."""
    try:
        return json.loads(_require_existing(path).read_text(encoding="utf-8"))
    except ValueError as error:  # also where it is not UTF-8
        raise UserError(
            f"{path} is not JSON ({error}): remove it, and run the command that wrote it again, such as `dvc repro`"
        ) from None


def write_csv(path: Path, frame: "pd.DataFrame") -> None:
    text = frame.to_csv(index=False, lineterminator="\n")
    if "\r" in text:  # readers take an unquoted \r for a line end
        text = frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    write_text(path, text)


def read_csv(file: Path | TextIO) -> "pd.DataFrame":
    """Read what write_csv wrote, from a path or a text stream, with TEXT_COLUMNS as text.

    Raises UserError where the file is missing.
    """
    import pandas as pd  # takes a quarter of a second, which fetch and tokenize do not need

    source = _require_existing(file) if isinstance(file, Path) else file
    return pd.read_csv(source, keep_default_na=False, dtype=dict.fromkeys(TEXT_COLUMNS, str))


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` when the block ends without an error.

    An error leaves `path` as it was. Raises UserError where the system refuses to write.
    """
    partial = _name_partial(path)
    try:
        with name_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            _flush(partial)
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to fill, and replace `path` with it when the block ends without an error.

    CHECKSUMS in the folder lists the sha256 of its files in the format of the command sha256sum. An error leaves `path`
    as it was. Raises UserError where the system refuses to write.
    """
    partial = _name_partial(path)
    try:
        with name_write_errors(path):
            shutil.rmtree(partial, ignore_errors=True)  # a killed run left it
            partial.mkdir(parents=True)
            yield partial
            lines = [f"{hash_file(file)}  {file.name}\n" for file in sorted(partial.iterdir())]
            (partial / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
            for file in partial.iterdir():
                _flush(file)
            shutil.rmtree(path, ignore_errors=True)
            partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def verify(path: Path) -> Path:
    """Return `path`, a folder that atomic_folder filled or a file in such a folder, after a check of its sha256.

    Raises UserError where a file has changed, is missing or is new. NO_CONTENT is ignored.
    """
    folder = path if _require_existing(path).is_dir() else path.parent
    checksums = _require_existing(folder / CHECKSUMS).read_text(encoding="utf-8")
    recorded = {name: digest for digest, _, name in (line.partition("  ") for line in checksums.splitlines())}
    present = {entry.name for entry in folder.iterdir() if not NO_CONTENT.fullmatch(entry.name)} - {CHECKSUMS}
    for name in sorted(present | recorded.keys()) if path is folder else [path.name]:
        if (folder / name).is_symlink():
            _require_existing(folder / name)
        if (folder / name).is_dir():  # DVC does not see an empty folder
            raise UserError(f"{folder / name} does not belong to {folder}: remove it")
        if not (folder / name).is_file() or hash_file(folder / name) != recorded.get(name):
            raise UserError(f"{folder / name} is not as it was written; `dvc repro` puts it right")
    return path


def compute_digest(configuration: Mapping[str, Any], inputs: Iterable[Path], rooms: Iterable[str]) -> str:
    """Return 16 hex digits that depend on the configuration (plain data), the input files and the code in `rooms`.

    A room is a folder of cola/.
    """
    library = Path(__file__).parents[1]
    code = [path for room in rooms for path in sorted((library / room).glob("*.py"))]
    hashes = {str(path): hash_file(path) for path in inputs}
    hashes |= {path.relative_to(library).as_posix(): hash_file(path) for path in code}
    return hashlib.sha256(json.dumps([configuration, hashes], sort_keys=True).encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_stale(folder: Path) -> None:
    """Delete the files in a scratch folder that nobody has written to for STALE_AFTER."""
    for path in folder.glob("*"):
        with suppress(OSError):  # another process may delete it at the same time
            if time.time() - path.stat().st_mtime > STALE_AFTER:
                path.unlink()


@contextmanager
def name_write_errors(path: Path) -> Iterator[None]:
    """Turn an error of the system, such as a full disk, into a UserError that names `path` or the file it read."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # safetensors and tokenizers, written in Rust, give the system's error number in their text only.
        number = error.errno if isinstance(error, OSError) else None
        if number is None and (match := re.search(r"\(os error (\d+)\)", str(error))):
            number = int(match[1])
        if number is None:
            raise
        fault = f"{path} cannot be written"
        if isinstance(error, OSError) and error.filename and error.filename2 is None:
            file = Path(os.fsdecode(error.filename))
            if file not in (path, *path.parents) and _name_partial(path) not in (file, *file.parents):
                fault = f"{file} cannot be read"
        raise UserError(f"{fault}: {os.strerror(number)}; fix that and run this again") from None


def _name_partial(path: Path) -> Path:
    """Return the temporary path that a write of `path` uses before the rename."""
    return path.with_name(f".{path.name}.partial")


def _flush(path: Path) -> None:
    """Write a file's bytes to the disk: otherwise a crash of the machine could leave the new name without them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _require_existing(path: Path) -> Path:
    if path.is_symlink() and not path.exists():  # DVC can make links into its cache, with absolute paths
        raise UserError(f"{path} is a link to a file that is not there: `dvc checkout` renews a link into DVC's cache")
    if not path.exists():
        raise UserError(f"{path} is missing: `dvc repro` makes it")
    return path
