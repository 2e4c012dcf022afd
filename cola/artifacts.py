"""Files between stages: written whole or not at all, so that nothing half-written is ever read."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cola.errors import UserError

SUMS = "SHA256SUMS"
PARTS = ("train", "validation", "test")  # the tables of data/tokenized
TOKENIZED_SCHEMA = pa.schema(
    [
        ("sentence_source", pa.string()),
        ("label", pa.int8()),
        ("sentence", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
    ]
)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write plain data as indented JSON; NaN and infinity are refused (ValueError), for JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(_existing(path).read_text(encoding="utf-8"))
    except ValueError as error:  # also of what is not UTF-8
        raise UserError(f"{path} is no JSON ({error}): remove it, and `dvc repro` makes it anew") from None


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    with replacing(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """Read what write_csv wrote, to the last digit, and "None" as the word it is."""
    return pd.read_csv(_existing(path), keep_default_na=False)


def write_parquet(path: Path, tables: Iterable[pa.Table], source: Mapping[str, Any]) -> None:
    """Write tables of tokenized sentences, of whose columns it takes those of TOKENIZED_SCHEMA, as one.

    Each is a row group. `source` (plain data) travels in the file's metadata, as pandas has its `attrs` do.
    """
    schema = TOKENIZED_SCHEMA.with_metadata({"PANDAS_ATTRS": json.dumps(source)})
    with replacing(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        for table in tables:
            writer.write_table(table.select(schema.names).cast(TOKENIZED_SCHEMA))


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table of a folder that `directory` filled; its source is in `attrs`. Raises as `unchanged` does."""
    return pd.read_parquet(unchanged(path))


def read_some(path: Path) -> pd.DataFrame:
    """Read the first row group of such a table: a sample, for the sentences are in random order."""
    return pq.ParquetFile(unchanged(path)).read_row_group(0).to_pandas()


def source(path: Path) -> Any:
    """What `write_parquet` was told of where the sentences are from."""
    return json.loads(pq.read_schema(path).metadata[b"PANDAS_ATTRS"])


def shortest_sentence(path: Path) -> str:
    """The first of the shortest sentences of a table that write_parquet wrote."""
    batches = pq.ParquetFile(path).iter_batches(columns=["sentence"])
    return min((min(batch.column(0).to_pylist(), key=len) for batch in batches), key=len)


@contextmanager
def directory(path: Path) -> Iterator[Path]:
    """A new folder to fill. It takes the place of `path` when the block ends well, and is removed otherwise.

    The hashes of its files go to its SHA256SUMS, as the command `sha256sum` has them. Raises UserError where the disk
    refuses something.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with writing(path):
            shutil.rmtree(partial, ignore_errors=True)  # a killed run's
            partial.mkdir(parents=True)
            yield partial
            lines = [f"{sha256(file)}  {file.name}\n" for file in sorted(partial.iterdir())]
            (partial / SUMS).write_text("".join(lines), encoding="utf-8")
            for file in partial.iterdir():
                _flush(file)
            shutil.rmtree(path, ignore_errors=True)
            partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def unchanged(path: Path) -> Path:
    """`path`: a folder that `directory` filled, or a file in one. Raises UserError where a byte of it has changed."""
    folder = path if _existing(path).is_dir() else path.parent
    lines = [line.partition("  ") for line in _existing(folder / SUMS).read_text(encoding="utf-8").splitlines()]
    written = {name: digest for digest, _, name in lines}
    there = {file.name for file in folder.iterdir()} - {SUMS}
    for name in sorted(there | written.keys()) if path is folder else [path.name]:
        if name not in there or sha256(folder / name) != written.get(name):
            raise UserError(f"{folder / name} is not as it was written; `dvc repro` puts it right")
    return path


def digest(determines: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """16 hex digits for a result: other settings (plain data), inputs or code (all of cola/) give others."""
    code = sorted(Path(__file__).parent.glob("*.py"))
    files = {str(path): sha256(path) for path in [*inputs, *code]}
    return hashlib.sha256(json.dumps([determines, files], sort_keys=True).encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A neighbour of `path` to write to; renamed over it, which is atomic, once its bytes are on the disk.

    Raises UserError where the disk refuses something.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            _flush(partial)
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise what the system says against writing, a full disk say, as a UserError that names `path`."""
    try:
        yield
    except Exception as error:
        # safetensors and tokenizers, in Rust, have errors of their own, which tell the system's number in their text.
        told = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        if number is None:
            raise
        raise UserError(f"{path} cannot be written: {os.strerror(number)}; mend that and run `dvc repro`") from None


def _flush(path: Path) -> None:
    """Have the bytes of a file on the disk: a crash of the machine would lose them behind the new name."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} is missing: `dvc repro` makes it")
    return path
