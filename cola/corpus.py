"""CoLA's TSV files as tables, and the split of the training sentences. Pure, but for one read."""

from pathlib import Path

import numpy as np
import pandas as pd

from cola.errors import UserError

TRAINING_FILE = "in_domain_train.tsv"
TEST_FILE = "out_of_domain_dev.tsv"  # the tutorial's test set: CoLA's own test labels are not public
COLUMNS = ["sentence_source", "label", "label_notes", "sentence"]


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
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        text, at = error.object, error.start  # of what follows a byte order mark
        line = text[:at].count(b"\n") + 1
        raise UserError(f"{name}, line {line}: not UTF-8 (byte 0x{text[at]:02x})") from None
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
