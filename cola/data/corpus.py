"""Sentences with labels, row by row: CoLA's TSV files, or a folder of one's own; and the split of the training ones."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cola.core.errors import UserError

TRAINING_FILE = "in_domain_train.tsv"
TEST_FILE = "out_of_domain_dev.tsv"  # the tutorial's test set: CoLA's own test labels are not public
COLUMNS = ["sentence_source", "label", "label_notes", "sentence"]
COLA_LABELS = ["unacceptable", "acceptable"]  # by label: 0, 1
MOST_LABELS = 100
Row = tuple[str, int, str]  # sentence_source, label (from 0), sentence
USER_TABLES = ("train", "test")  # of a folder of one's own, each .csv or .tsv


def read_folder(folder: Path, labels: Sequence[str]) -> tuple[Iterator[Row], Iterator[Row]]:
    """The training and the test sentences that fetch left in a folder, as they are read. Raises as `rows` does."""
    if (folder / TRAINING_FILE).exists():
        return read_tsv(folder / TRAINING_FILE), read_tsv(folder / TEST_FILE)
    training, test = (read_table(find_table(folder, part), labels) for part in USER_TABLES)
    return training, test


def read_tsv(path: Path) -> Iterator[Row]:
    """The sentences of one of CoLA's TSV files, as `parse` has them."""
    try:
        with path.open("rb") as file:
            yield from parse_tsv(file, str(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` fetches it") from None


def parse_tsv(file: BinaryIO, name: str) -> Iterator[Row]:
    """Check every row of a TSV without header (COLUMNS) and without quoting: a quotation mark is part of a sentence.

    Raises UserError naming file, line and fault.
    """
    number = 0
    for number, line in enumerate(_lines(file, name, newline="\n"), start=1):
        fields = line.removesuffix("\n").removesuffix("\r").split("\t")
        fault = _fault(fields)
        if fault:
            raise UserError(f"{name}, line {number}: {fault}")
        yield fields[0], int(fields[1]), fields[3].strip()
    if not number:
        raise UserError(f"{name}: no sentences")


def find_table(folder: Path, part: str) -> Path:
    """The file of a part of one's own corpus. Raises UserError where there is none, or two."""
    there = [path for path in (folder / f"{part}.csv", folder / f"{part}.tsv") if path.is_file()]
    if len(there) != 1:
        raise UserError(f"{folder} must have {part}.csv or {part}.tsv{', not both' * bool(there)}")
    return there[0]


def read_table(path: Path, labels: Sequence[str]) -> Iterator[Row]:
    """The sentences of a table of one's own: a label is its place among `labels`. Raises as `parse_table` does."""
    with path.open("rb") as file:
        for source, label, sentence in parse_table(file, str(path), labels):
            yield source, labels.index(label), sentence


def parse_table(file: BinaryIO, name: str, labels: Sequence[str] | None = None) -> Iterator[tuple[str, str, str]]:
    """Check every row of a CSV (of a TSV, where `name` ends so) with a header that has text and label, quoted as usual.

    Yields its source (from a column source, else "all"), label and text. With `labels`, no other label may occur.
    Raises UserError naming file, line and fault.
    """
    reader = csv.reader(_lines(file, name, newline=""), delimiter="\t" if name.endswith(".tsv") else ",", strict=True)
    header: list[str] = []
    found = False
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
                    found = True
                    yield row.get("source", "all"), row["label"], row["text"]
            if fault:
                raise UserError(f"{name}, line {line}: {fault}")
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{name}, line {line}: {error}; a field with a quotation mark or a line break needs quotes "
            "around it, and its own quotation marks twice"
        ) from None
    if not found:
        raise UserError(f"{name}: no sentences")


def label_names(path: Path) -> list[str]:
    """The names of the labels in a table of one's own, in the order of their numbers: that of whole numbers, else the
    alphabet's. Raises UserError where there is nothing to tell apart, or too much, or as `parse_table` does."""
    with path.open("rb") as file:
        names = sorted({label for _, label, _ in parse_table(file, str(path))})
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        names.sort(key=int)
    if not 1 < len(names) <= MOST_LABELS:
        raise UserError(f"{path}: {len(names)} different labels, 2 to {MOST_LABELS} expected")
    return names


def split(count: int, validation_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split `count` sentences at random: the places, from 0, of (training, validation), int64.

    The training part's size is rounded down, as the tutorial's. Raises UserError where a part would be empty.
    """
    training = int(round((1 - validation_fraction) * count, 9))  # (1 - 0.8) * 10 is 1.9999999999999996
    if not 0 < training < count:
        raise UserError(f"{count} sentences cannot be split with tokenize.validation_fraction={validation_fraction}")
    order = np.random.default_rng(seed).permutation(count)
    return order[:training], order[training:]


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


def _lines(file: BinaryIO, name: str, newline: str) -> Iterator[str]:
    """The lines of UTF-8 text, with their ends, told apart as `open` does with this `newline`."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline)
    try:
        yield from text
    except UnicodeDecodeError:
        text.detach().seek(0)
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{name}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x})") from None
        raise
