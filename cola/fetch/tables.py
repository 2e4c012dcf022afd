"""The tables that people bring. Each row is checked once; a message about a fault names file and line."""

import csv
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, repeat
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cola.core.errors import UserError, escape, join_lines

COLA_LABELS = ["unacceptable", "acceptable"]  # the names of CoLA's labels 0 and 1
COLA_HEADER = ["source", "label", "label_notes", "text"]  # CoLA's files have no header
COLUMNS = ("text", "label", "source")  # other columns are not read
LONGEST_FIELD = 2**22  # characters; cola/data/corpus.py reads rows of such fields
SEPARATORS = {".csv": ",", ".tsv": "\t"}
QUOTING = (
    "a field with a comma (in a .tsv: a tab), a quotation mark or a line break needs quotation marks around it, "
    "and a quotation mark inside it is written twice"
)
CONFLICT = "keep one side of the merge conflict"
BY_COMMAS = "separate the columns by commas (in a .tsv: by tabs)"
HEADER_REMEDIES = {  # the first pattern that occurs in the first field of a header without the columns
    r"^PAR1": "name the file .parquet",
    r"^PK\x03": "export the spreadsheet as CSV, or unpack the zip",
    "^\udc8b": "unpack the file",  # gzip
    r"[\udc80-\udcff]": "save the table as UTF-8",
    r"^sep=": "remove this line, which spreadsheets add",
    r"^version .*git-lfs": "this is git-lfs's pointer to the table: run `git lfs pull`",
    r"[;|]": BY_COMMAS,
    r"^<<<<<<< ": CONFLICT,
    r"\t": "name the file .tsv",
    r",": "name the file .csv, without quotation marks around whole lines",
    r"": "the header must name the columns text and label",
}
NOT_UTF8 = re.compile("[\0\ud800-\udfff]")  # NUL, and the surrogates that Python reads for wrong bytes
# Invisible characters that Unicode counts among letters, signs and accents.
BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0").union(map(chr, range(0xFE00, 0xFE10)))


class Row(NamedTuple):
    """A sentence. The fields are the columns of the plain form."""

    sentence_source: str
    label: str
    sentence: str


Rows = Iterator[tuple[str, Row]]  # with the row's position: "corpora/mine/train.csv, line 7"
Records = Iterator[tuple[str, list[str]]]  # with the position, a row's fields in the file; the first is the header


def find_table(folder: Path, name: str) -> Path:
    """The path of the table `name` in a user's folder. Raises UserError unless exactly one file has that name."""
    names = [f"{name}{suffix}" for suffix in READERS]
    present = sorted(path.name for path in folder.iterdir())
    tables = [file for file in present if file in names]
    if len(tables) != 1:
        raise UserError(
            f"{folder} must have exactly one of {', '.join(names)}, but has "
            f"{', '.join(present)[:200] or 'nothing'}: rename, unpack, remove, or export as {names[0]} in UTF-8"
        )
    return folder / tables[0]


def read_cola(path: Path) -> Rows:
    """Yield the rows of one of CoLA's TSV files, without header and quoting. Raises UserError as read_table."""
    records = _clean_records(path, _read_separated(path, quoting=csv.QUOTE_NONE))
    for where, row in _read_rows(path, records, COLA_HEADER):
        if row.label not in ("0", "1"):
            raise UserError(f"{where}: label {row.label[:40]!a}, 0 or 1 expected")
        yield where, row._replace(label=COLA_LABELS[int(row.label)])


def read_table(path: Path) -> Rows:
    """Yield the rows of a user's table: .csv or .tsv with a header and the usual quoting, .jsonl or .parquet.

    The table must have the columns text and label. Without a column source, every source is "all"; an empty source is
    "none". Prints a note that names the other columns. Raises UserError, with file and line, for the first row that
    cannot be used, and for a table without rows.
    """
    records = _clean_records(path, READERS[path.suffix](path))
    where, names = next(records, (str(path), list(COLUMNS)))
    header = [normalize(name) for name in names]
    for column in COLUMNS:
        if header.count(column) > 1:
            raise UserError(f"{where}: two columns are called {column}: remove or rename one")
        if column not in header and column != "source":
            remedy = next(remedy for pattern, remedy in HEADER_REMEDIES.items() if re.search(pattern, names[0]))
            raise UserError(f"{where}: no column {column!r} in the header ({', '.join(names)[:200]}): {remedy}")
    if unread := [name for name in names if is_visible(name) and normalize(name) not in COLUMNS]:
        print(f"note: columns of {path.name} that are not read: {escape(', '.join(unread)[:200])}")
    return _read_rows(path, records, header)


def normalize(text: str) -> str:
    """The text in small letters, with single spaces, without invisible letters, and with one code for each letter."""
    words = unicodedata.normalize("NFKC", text).casefold().replace("\N{MINUS SIGN}", "-").split()
    return " ".join(filter(None, ("".join(filter(is_visible, word)) for word in words)))


def is_visible(text: str) -> bool:
    """Whether a text has more than white space, control characters and invisible letters."""
    return any(
        not letter.isspace() and letter not in BLANKS and unicodedata.category(letter) not in ("Cc", "Cf")
        for letter in text
    )


def _read_rows(path: Path, records: Records, header: Sequence[str]) -> Rows:
    """Yield a Row for each record. Raises UserError as read_table."""
    columns = {name: header.index(name) for name in COLUMNS if name in header}
    labels: set[str] = set()
    for where, fields in records:
        if fault := _find_fault(fields, header, columns):
            raise UserError(f"{where}: {fault}")
        text, label = fields[columns["text"]], fields[columns["label"]]
        if label not in labels and (normalize(text), normalize(label)) == ("text", "label"):
            raise UserError(f"{where}: the header occurs a second time: remove this line")
        if path.suffix == ".tsv" and any("\n" in field and "\t" in field for field in fields):
            raise UserError(f"{where}: a quotation mark begins a field that holds whole rows: {QUOTING}")
        labels.add(label)
        yield where, Row((fields[columns["source"]] or "none") if "source" in columns else "all", label, text)
    if not labels:
        raise UserError(f"{path}: no sentences")


def _find_fault(fields: list[str], header: Sequence[str], columns: Mapping[str, int]) -> str | None:
    """The fault of a record, with a remedy, or None.

    Empty fields beyond the header are removed. Fields after text and label may be missing: Excel writes no empty ones.
    """
    while len(fields) > len(header) and not fields[-1]:
        fields.pop()
    if len(fields) > max(columns["text"], columns["label"]):
        fields += [""] * (len(header) - len(fields))
    for field in fields:
        if match := NOT_UTF8.search(field):
            is_wrong_byte = "\udc80" <= match[0] <= "\udcff"
            kind, remedy = ("UTF-8", "") if is_wrong_byte else ("text", "remove it, or ")
            return f"{match[0]!a} is not {kind}: {remedy}save the table as UTF-8"
        if len(field) > LONGEST_FIELD:
            return f"{len(field):,} characters, {LONGEST_FIELD:,} at most: shorten the text"
    if fields[0].startswith("<<<<<<< "):
        return CONFLICT
    if len(fields) == len(header) + 1 and header[0] in COLUMNS and fields[0].isdecimal():
        return "R's names of rows: write the table with row.names=FALSE"
    if len(fields) != len(header):
        return f"{len(fields)} columns, {len(header)} expected ({', '.join(header)[:200]}): {QUOTING}"
    for column in ("text", "label"):
        if not is_visible(fields[columns[column]]):
            return f"empty {column}: fill it in, or remove the row"
    return None


def _clean_records(path: Path, records: Records) -> Records:
    """Yield the records that are not empty, with the path, and without white space around their fields."""
    try:
        for line, fields in records:
            clean = [field.replace("\r\n", "\n").replace("\r", "\n").strip() for field in fields]
            if any(map(is_visible, clean)):
                yield f"{path}, {line}", clean
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; fix that and run `dvc repro`") from None


def _read_separated(path: Path, **dialect: Any) -> Records:
    """The records of a CSV or TSV. Raises UserError, with file and line, for wrong quoting."""
    csv.field_size_limit(2**31 - 1)  # the library's is 131,072 characters
    line = 1
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True, delimiter=SEPARATORS[path.suffix], **dialect)
        try:
            for fields in reader:
                yield f"line {line}", fields
                line = reader.line_num + 1
        except csv.Error as error:
            # The first field of a header ends at another separator, such as a semicolon.
            remedy = BY_COMMAS if line == 1 and "expected after" in str(error) else QUOTING
            raise UserError(f"{path}, line {line}: {error}; {remedy}") from None


def _read_json_lines(path: Path) -> Records:
    """The records of a file with a JSON object a line; numbers stay as written. Raises UserError, with the line.

    The first line's keys are the header.
    """
    header: list[str] = []
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, content in enumerate(file, 1):
            if not content.strip():
                continue
            try:
                record = json.loads(content, parse_float=str, parse_int=str, parse_constant=_read_constant)
                texts = {normalize(key): _to_text(value) for key, value in record.items() if normalize(key) in COLUMNS}
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                fault = "not a JSON object: write an object in every line"
                if NOT_UTF8.search(content):
                    fault = "not UTF-8: save the table as UTF-8"
                elif isinstance(error, TypeError):
                    fault = "text, label or source is a list or an object: write a text or a number"
                raise UserError(f"{path}, line {number}: {fault}") from None
            if not header:
                header = [normalize(key) for key in record]
                yield f"line {number}", list(record)
            if more := sorted(texts.keys() - set(header)):
                raise UserError(f"{path}, line {number}: {more[0]} is not in the first line: write it in every line")
            yield f"line {number}", [texts.get(name, "") for name in header]


def _read_constant(name: str) -> str:
    """NaN, which pandas writes for a missing value, is empty; Infinity is a text."""
    return "" if name == "NaN" else name


def _to_text(value: Any) -> str:
    """A JSON value as text; null is empty. Raises TypeError for a list and an object."""
    texts = {None: "", True: "true", False: "false"}
    return value if isinstance(value, str) else texts[value]


def _read_parquet(path: Path) -> Records:
    """The records of a Parquet file. Raises UserError where the library cannot read it."""
    try:
        table, numbers = pq.ParquetFile(path), count(1)
        header = table.schema_arrow.names
        names = [name for name in header if normalize(name) in COLUMNS]
        yield "the header", header
        if not names:
            return  # without columns, zip below would never end
        for batch in table.iter_batches(columns=names):
            columns = [_to_texts(batch[name]) if name in names else repeat("") for name in header]
            for *fields, number in zip(*columns, numbers, strict=False):
                yield f"row {number}", fields
    except Exception as error:  # the library has many, for a spoiled file and for columns that are no text
        raise UserError(
            f"{path} cannot be read: {join_lines(error)}; write it again, as one file, with text and label as texts"
        ) from None


def _to_texts(column: pa.Array) -> list[str]:
    """A Parquet column as texts; null and NaN are empty."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return column.cast(pa.string()).fill_null("").to_pylist()


READERS = {".csv": _read_separated, ".tsv": _read_separated, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
