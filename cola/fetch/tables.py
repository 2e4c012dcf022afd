"""The tables that people bring -> data/raw: every row is checked once, and all tables leave in one plain form."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cola.core.errors import UserError

COLA_LABELS = ["unacceptable", "acceptable"]  # the names of CoLA's labels 0 and 1
COLA_HEADER = ["source", "label", "label_notes", "text"]  # CoLA's own files have none
MOST_LABELS = 100
QUOTING_REMEDY = (
    "a field with a quotation mark or a line break needs quotes around it, and its own quotation marks twice"
)


class Row(NamedTuple):
    """A sentence. The fields are the columns of the plain form."""

    sentence_source: str
    label: str
    sentence: str


def read_cola(path: Path) -> Iterator[Row]:
    """Yield the rows of one of CoLA's TSV files, without header and quoting. Raises UserError as read_table."""
    numbered_rows = _numbered_rows(path, delimiter="\t", quoting=csv.QUOTE_NONE)
    for row in _checked_rows(path, numbered_rows, COLA_HEADER, ("0", "1")):
        yield row._replace(label=COLA_LABELS[int(row.label)])


def read_table(path: Path, labels: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a user's CSV or TSV, which has a header and the usual quoting.

    The header must have the columns text and label. Without a column source, every source is "all". With `labels`, no
    other label may occur. Raises UserError, with file and line, for the first row that is malformed, and for a table
    without rows.
    """
    numbered_rows = _numbered_rows(path, delimiter="\t" if path.suffix == ".tsv" else ",")
    line, header = next(numbered_rows, (1, ["text", "label"]))
    for column in ("text", "label"):
        if header.count(column) != 1:
            raise UserError(f"{path}, line {line}: no column {column!r} in the header ({', '.join(header)})")
    yield from _checked_rows(path, numbered_rows, header, labels)


def find_table(folder: Path, name: str) -> Path:
    """The path of the table `name` in a user's folder. Raises UserError if it is missing, or both a .csv and a .tsv."""
    paths = [path for path in (folder / f"{name}.csv", folder / f"{name}.tsv") if path.is_file()]
    if not paths:
        raise UserError(f"{folder} must have {name}.csv or {name}.tsv")
    if len(paths) == 2:
        raise UserError(f"{folder} must have {name}.csv or {name}.tsv, not both")
    return paths[0]


def write(path: Path, rows: Iterable[Row]) -> set[str]:
    """Write rows as the plain form: a CSV in UTF-8 whose header is Row's fields. Returns the labels that occur."""
    labels = set()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        for row in rows:
            labels.add(row.label)
            writer.writerow(row)
    return labels


def sort_labels(labels: Iterable[str], path: Path) -> list[str]:
    """The labels' names by number: in numeric order if all are integers, else in alphabetical order.

    Raises UserError, which names the table `path`, for fewer than 2 labels or more than MOST_LABELS.
    """
    names = sorted(labels)
    if not 1 < len(names) <= MOST_LABELS:
        raise UserError(f"{path}: {len(names)} different labels, 2 to {MOST_LABELS} expected")
    return sorted(names, key=int) if all(re.fullmatch(r"-?\d+", name) for name in names) else names


def _numbered_rows(path: Path, **dialect: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, fields) of each row that is not empty; fields lose the white space around them.

    Raises UserError, with file and line, for wrong quoting and for bytes that are not UTF-8.
    """
    line = 1
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True, **dialect)
        try:
            for fields in reader:
                if fields:
                    yield line, [field.strip() for field in fields]
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: {error}; {QUOTING_REMEDY}") from None
        except UnicodeDecodeError:
            raise UserError(f"{path}, {_encoding_fault(path)}") from None


def _checked_rows(
    path: Path, numbered_rows: Iterable[tuple[int, list[str]]], header: Sequence[str], labels: Sequence[str] | None
) -> Iterator[Row]:
    """Yield a Row for each row of fields. Raises UserError as read_table."""
    empty = True
    for line, fields in numbered_rows:
        row = dict(zip(header, fields, strict=False))
        if fault := _fault(row, fields, header, labels):
            raise UserError(f"{path}, line {line}: {fault}")
        yield Row(row.get("source", "all"), row["label"], row["text"])
        empty = False
    if empty:
        raise UserError(f"{path}: no sentences")


def _fault(
    row: Mapping[str, str], fields: Sequence[str], header: Sequence[str], labels: Sequence[str] | None
) -> str | None:
    """What is wrong with a row, given by column and as its fields; None if nothing is."""
    if len(fields) != len(header):
        return f"{len(fields)} columns, {len(header)} expected ({', '.join(header)})"
    if not row["text"]:
        return "empty text"
    if not row["label"]:
        return "empty label"
    if labels is not None and row["label"] not in labels:
        return f"label {row['label'][:40]!r} is not among the training labels ({', '.join(labels)[:200]})"
    if any("\0" in field for field in fields):
        return "a NUL"
    return None


def _encoding_fault(path: Path) -> str:
    """The first line of a file that is not UTF-8, and its first wrong byte."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"line {number}: not UTF-8 (byte 0x{line[error.start]:02x})"
    raise AssertionError(f"{path} is UTF-8")
