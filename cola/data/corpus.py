"""Sentences with labels, row by row: CoLA's TSV files or a user's own tables; and the split for validation."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from cola.core.errors import UserError

TRAINING_FILE = "in_domain_train.tsv"
TEST_FILE = "out_of_domain_dev.tsv"  # the tutorial's test set: CoLA's own test labels are not public
COLUMNS = ["sentence_source", "label", "label_notes", "sentence"]
COLA_LABELS = ["unacceptable", "acceptable"]  # the names of the labels 0 and 1
MOST_LABELS = 100
USER_TABLES = ("train", "test")  # the tables of a user's own corpus, .csv or .tsv
Row = tuple[str, int, str]  # sentence_source, label (from 0), sentence


class Corpus(NamedTuple):
    """What fetch left in a folder. A file is read, and its rows checked, while they are iterated over."""

    training_rows: Iterable[Row]  # of which the validation sentences are taken
    test_rows: Iterable[Row]
    source: Mapping[str, Any]  # of source.json; `labels` are the labels' names


def read_folder(folder: Path, source: Mapping[str, Any]) -> Corpus:
    """The corpus in a folder that fetch filled. Iterating over its rows raises UserError as read_tsv and read_table."""
    if (folder / TRAINING_FILE).exists():
        return Corpus(read_tsv(folder / TRAINING_FILE), read_tsv(folder / TEST_FILE), source)
    training_rows, test_rows = (read_table(find_table(folder, name), source["labels"]) for name in USER_TABLES)
    return Corpus(training_rows, test_rows, source)


def read_tsv(path: Path) -> Iterator[Row]:
    """The rows of one of CoLA's TSV files. Raises UserError where it is missing, and as parse_tsv."""
    try:
        with path.open("rb") as file:
            yield from parse_tsv(file, str(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `dvc repro` fetches it") from None


def parse_tsv(file: BinaryIO, name: str) -> Iterator[Row]:
    """Yield the rows of a TSV without header (COLUMNS) and without quoting: a quotation mark is part of a sentence.

    Raises UserError with file, line and fault for the first row that is malformed, and for a file without rows.
    """
    number = 0
    for number, line in enumerate(_lines(file, name, newline="\n"), start=1):
        fields = line.removesuffix("\n").removesuffix("\r").split("\t")
        fault = _tsv_fault(fields)
        if fault:
            raise UserError(f"{name}, line {number}: {fault}")
        yield fields[0], int(fields[1]), fields[3].strip()
    if not number:
        raise UserError(f"{name}: no sentences")


def find_table(folder: Path, name: str) -> Path:
    """The path of one of the USER_TABLES in a folder. Raises UserError where it is missing, or both .csv and .tsv."""
    paths = [path for path in (folder / f"{name}.csv", folder / f"{name}.tsv") if path.is_file()]
    if not paths:
        raise UserError(f"{folder} must have {name}.csv or {name}.tsv")
    if len(paths) == 2:
        raise UserError(f"{folder} must have {name}.csv or {name}.tsv, not both")
    return paths[0]


def read_table(path: Path, labels: Sequence[str]) -> Iterator[Row]:
    """The rows of a user's table, a label as its index in `labels`. Raises UserError as parse_table."""
    with path.open("rb") as file:
        for source, label, sentence in parse_table(file, str(path), labels):
            yield source, labels.index(label), sentence


def parse_table(file: BinaryIO, name: str, labels: Sequence[str] | None = None) -> Iterator[tuple[str, str, str]]:
    """Yield (source, label, text) of the rows of a CSV, or of a TSV where `name` ends in .tsv, with the usual quoting.

    The header must have the columns text and label; without a column source, every source is "all". With `labels`, no
    other label may occur. Raises UserError with file, line and fault for the first row that is malformed, and for a
    table without rows.
    """
    reader = csv.reader(_lines(file, name, newline=""), delimiter="\t" if name.endswith(".tsv") else ",", strict=True)
    header: list[str] = []
    empty = True
    line = 1  # the row's first
    try:
        for fields in reader:
            fault = None
            if not header:
                header = [field.strip() for field in fields]
                missing = [column for column in ("text", "label") if header.count(column) != 1]
                fault = f"no column {missing[0]!r} in the header ({', '.join(header)})" if missing else None
            elif fields:  # not an empty line
                row = dict(zip(header, (field.strip() for field in fields), strict=False))
                fault = _table_fault(fields, row, header, labels)
                if not fault:
                    empty = False
                    yield row.get("source", "all"), row["label"], row["text"]
            if fault:
                raise UserError(f"{name}, line {line}: {fault}")
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{name}, line {line}: {error}; a field with a quotation mark or a line break needs quotes "
            "around it, and its own quotation marks twice"
        ) from None
    if empty:
        raise UserError(f"{name}: no sentences")


def label_names(path: Path) -> list[str]:
    """The names of the labels in a user's table, by label: in numeric order if all are integers, else in alphabetical.

    Raises UserError where there are fewer than 2 or more than MOST_LABELS, and as parse_table.
    """
    with path.open("rb") as file:
        names = sorted({label for _, label, _ in parse_table(file, str(path))})
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        names.sort(key=int)
    if not 1 < len(names) <= MOST_LABELS:
        raise UserError(f"{path}: {len(names)} different labels, 2 to {MOST_LABELS} expected")
    return names


def split(
    count: int, validation_fraction: float, seed: int, training_sentences: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split `count` sentences at random: the indices, int64, of the (training, validation) sentences.

    The number of training sentences is rounded down, as in the tutorial. With `training_sentences` there are only so
    many of them: of a smaller number all are among those of a larger one. Raises UserError where either would be empty,
    or there are fewer.
    """
    training = int(round((1 - validation_fraction) * count, 9))  # (1 - 0.8) * 10 is 1.9999999999999996
    if not 0 < training < count:
        raise UserError(f"{count} sentences cannot be split with tokenize.validation_fraction={validation_fraction}")
    if training_sentences and training_sentences > training:
        raise UserError(f"tokenize.training_sentences={training_sentences}: there are {training}")
    order = np.random.default_rng(seed).permutation(count)
    return order[: training_sentences or training], order[training:]


def _tsv_fault(fields: list[str]) -> str | None:
    if len(fields) != len(COLUMNS):
        return f"{len(fields)} columns, {len(COLUMNS)} expected ({', '.join(COLUMNS)}; separated by tabs)"
    if fields[1] not in ("0", "1"):
        return f"label {fields[1][:20]!r}, 0 or 1 expected"
    if not fields[3].strip():
        return "empty sentence"
    if any(control in field for field in fields for control in "\0\r"):
        return "a NUL or a carriage return within the line"
    return None


def _table_fault(fields: list[str], row: dict[str, str], header: list[str], labels: Sequence[str] | None) -> str | None:
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
    """The lines of UTF-8 text with their line ends; `newline` as in `open`. Raises UserError where it is not UTF-8."""
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
