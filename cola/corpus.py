"""Sentences with labels, as tables: CoLA's TSV files, or a folder of one's own; and the split of the training ones."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cola.errors import UserError

TRAINING_FILE = "in_domain_train.tsv"
TEST_FILE = "out_of_domain_dev.tsv"  # the tutorial's test set: CoLA's own test labels are not public
COLUMNS = ["sentence_source", "label", "label_notes", "sentence"]
COLA_LABELS = ["unacceptable", "acceptable"]  # by label: 0, 1
MOST_LABELS = 100
PARTS = ("train", "test")  # of a folder of one's own, each .csv or .tsv


def read_folder(folder: Path, labels: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The training and the test sentences that fetch left in a folder: sentence_source, label (from 0), sentence."""
    if (folder / TRAINING_FILE).exists():
        return read(folder / TRAINING_FILE), read(folder / TEST_FILE)
    training, test = (read_table(table_in(folder, part), labels) for part in PARTS)
    return training, test


def read(path: Path) -> pd.DataFrame:
    """Read one of CoLA's TSV files: columns sentence_source, label (0 or 1), sentence. Raises as `parse` does."""
    try:
        return parse(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` fetches it") from None


def parse(content: bytes, name: str) -> pd.DataFrame:
    """Check every row of a TSV without header (COLUMNS) and without quoting: a quotation mark is part of a sentence.

    Raises UserError naming file, line and fault.
    """
    lines = _decoded(content, name).split("\n")
    if lines[-1] == "":
        lines.pop()  # the file's last newline ends a line, it does not begin one
    rows = []
    for number, row in enumerate(lines, start=1):
        fields = row.removesuffix("\r").split("\t")
        fault = _fault(fields)
        if fault:
            raise UserError(f"{name}, line {number}: {fault}")
        rows.append((fields[0], int(fields[1]), fields[3].strip()))
    if not rows:
        raise UserError(f"{name}: no sentences")
    return pd.DataFrame(rows, columns=["sentence_source", "label", "sentence"])


def table_in(folder: Path, part: str) -> Path:
    """The file of a part of one's own corpus. Raises UserError where there is none, or two."""
    there = [path for path in (folder / f"{part}.csv", folder / f"{part}.tsv") if path.is_file()]
    if len(there) != 1:
        raise UserError(f"{folder} must have {part}.csv or {part}.tsv{', not both' * bool(there)}")
    return there[0]


def read_table(path: Path, labels: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table of one's own. Raises as `parse_table` does."""
    return parse_table(path.read_bytes(), str(path), labels)


def parse_table(content: bytes, name: str, labels: Sequence[str] | None = None) -> pd.DataFrame:
    """Check every row of a CSV (of a TSV, where `name` ends so) with a header that has text and label, quoted as usual.

    Columns: sentence_source (from a column source, else "all"), label, sentence. With `labels`, a label becomes its
    place among them; without, it stays a text. Raises UserError naming file, line and fault.
    """
    reader = csv.reader(
        io.StringIO(_decoded(content, name), newline=""), delimiter="\t" if name.endswith(".tsv") else ",", strict=True
    )
    rows: list[tuple[str, str | int, str]] = []
    header: list[str] = []
    line = 1  # where the row begins
    try:
        for fields in reader:
            fault = None
            if not header:
                header = [field.strip() for field in fields]
                missing = [column for column in ("text", "label") if header.count(column) != 1]
                fault = f"no column {missing[0]!r} in the header ({', '.join(header)})" if missing else None
            elif fields:  # not an empty line
                row = dict(zip(header, (field.strip() for field in fields), strict=False))
                fault = _fault_of_row(fields, row, header, labels)
                if not fault:
                    label = row["label"] if labels is None else labels.index(row["label"])
                    rows.append((row.get("source", "all"), label, row["text"]))
            if fault:
                raise UserError(f"{name}, line {line}: {fault}")
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{name}, line {line}: {error}; a field with a quotation mark or a line break needs quotes "
            "around it, and its own quotation marks twice"
        ) from None
    if not rows:
        raise UserError(f"{name}: no sentences")
    return pd.DataFrame(rows, columns=["sentence_source", "label", "sentence"])


def labels(training: pd.DataFrame, path: Path) -> list[str]:
    """The names of the labels, in the order of their numbers: that of whole numbers, else the alphabet's.

    Raises UserError naming `path` where there is nothing to tell apart, or too much.
    """
    names = sorted(training["label"].unique())
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        names.sort(key=int)
    if not 1 < len(names) <= MOST_LABELS:
        raise UserError(f"{path}: {len(names)} different labels, 2 to {MOST_LABELS} expected")
    return names


def split(frame: pd.DataFrame, validation_fraction: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split rows at random into (training, validation); the training part's size is rounded down, as the tutorial's.

    Raises UserError where a part would be empty.
    """
    training_rows = int(round((1 - validation_fraction) * len(frame), 9))  # (1 - 0.8) * 10 is 1.9999999999999996
    if not 0 < training_rows < len(frame):
        raise UserError(
            f"{len(frame)} sentences cannot be split with tokenize.validation_fraction={validation_fraction}"
        )
    order = np.random.default_rng(seed).permutation(len(frame))
    training, validation = order[:training_rows], order[training_rows:]
    return frame.iloc[training].reset_index(drop=True), frame.iloc[validation].reset_index(drop=True)


def _fault(fields: list[str]) -> str | None:
    if len(fields) != len(COLUMNS):
        return f"{len(fields)} columns, {len(COLUMNS)} expected ({', '.join(COLUMNS)}; separated by tabs)"
    if fields[1] not in ("0", "1"):
        return f"label {fields[1][:20]!r}, 0 or 1 expected"
    if not fields[3].strip():
        return "empty sentence"
    if any(control in field for field in fields for control in "\0\r"):
        return "a NUL or a carriage return within the line"
    return None


def _fault_of_row(
    fields: list[str], row: dict[str, str], header: list[str], labels: Sequence[str] | None
) -> str | None:
    if len(fields) != len(header):
        return f"{len(fields)} columns, {len(header)} expected ({', '.join(header)})"
    if not row["text"]:
        return "empty text"
    if not row["label"]:
        return "empty label"
    if labels is not None and row["label"] not in labels:
        return f"label {row['label'][:40]!r} does not occur among the training sentences ({', '.join(labels)[:200]})"
    if any("\0" in field for field in fields):
        return "a NUL"
    return None


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text, at = error.object, error.start  # of what follows a byte order mark
        line = text[:at].count(b"\n") + 1
        raise UserError(f"{name}, line {line}: not UTF-8 (byte 0x{text[at]:02x})") from None
