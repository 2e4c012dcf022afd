"""Files between stages: written whole or not at all, so that nothing half-written is ever read."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from cola.errors import UserError

TOKENIZED_SCHEMA = pa.schema(
    [
        ("sentence_source", pa.string()),
        ("label", pa.int8()),
        ("sentence", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
    ]
)


def write_json(path: Path, value: Any) -> None:
    """Write plain data as indented JSON; NaN and infinity are refused (ValueError), for JSON has none."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(_existing(path).read_text(encoding="utf-8"))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    with replacing(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n")


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write tokenized sentences (TOKENIZED_SCHEMA). `frame.attrs` (plain data) travels in the file's metadata."""
    with replacing(path) as partial:
        frame.to_parquet(partial, index=False, schema=TOKENIZED_SCHEMA)


def read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(_existing(path))


@contextmanager
def directory(path: Path) -> Iterator[Path]:
    """A new folder to fill. It takes the place of `path` when the block ends well, and is removed otherwise."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # a killed run's
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A neighbour of `path` to write to; renamed over it, which is atomic, once its bytes are on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} is missing: `dvc repro` makes it")
    return path
