"""Classifies sentences with the trained model: the one given, or each line of standard input, to a CSV.

`python -m cola.predict "The book was written by John."`, `python -m cola.predict < sentences.txt > predicted.csv`
"""

import csv
import io
import os
import stat
import sys
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

import torch

from cola.core import files, params, paths, progress
from cola.core.errors import UserError, run
from cola.data import tutorial
from cola.model.device import choose_precision, prepare_device
from cola.model.prediction import Predictor
from cola.report.words import visible

CHUNK = 4096  # lines that are read, classified and written together: what bounds the memory


def main() -> None:
    sentence = " ".join(sys.argv[1:])
    if not sentence.strip() and (sys.argv[1:] or sys.stdin.isatty()):
        raise UserError('no sentence given; try: make predict TEXT="The book was written by John."')
    if not paths.FINETUNED.exists():
        raise UserError(
            f"{paths.FINETUNED} has no trained model; run `make repro`, or `make demo` and `dvc exp apply demo`"
        )
    source = files.read_json(files.verified(paths.FINETUNED) / "source.json")
    settings = params.load(paths.PARAMS)
    if sentence:  # one sentence is not worth waking a GPU
        text = decode(sentence.encode(errors="surrogateescape"), "the sentence")
        predictor = Predictor(paths.FINETUNED, torch.device("cpu"), torch.float32)
        ((label, probability),) = predictor.classify([text])
        write(f"{label} ({probability:.2f})  {text}  [{tutorial.title(source)}]")
        return
    device = prepare_device(settings.device)
    predictor = Predictor(paths.FINETUNED, device, choose_precision(settings.precision, device))
    write(csv_row("text", "label", "probability"))
    for lines in chunks(sys.stdin.buffer):
        predictions = iter(predictor.classify(filter(str.strip, lines)))
        for line in lines:  # an empty line has a row without a label: rows and lines agree
            write(csv_row(line, *(next(predictions) if line.strip() else ("", ""))))


def chunks(stream: BinaryIO) -> Iterator[list[str]]:
    """The lines of a file or a pipe, CHUNK at a time, with a progress bar. Raises UserError as decode."""
    status = os.fstat(stream.fileno())
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    number = 0
    with progress.bar(size, "B" if size else "sentences", "classified") as bar:
        while chunk := list(islice(stream, CHUNK)):
            yield [decode(line, f"standard input, line {number + index}") for index, line in enumerate(chunk, 1)]
            number += len(chunk)
            bar.update(sum(map(len, chunk)) if size else len(chunk))


def decode(line: bytes, name: str) -> str:
    """A line as text, without its end and a byte order mark. Raises UserError, with its `name`, if it is not UTF-8."""
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 (byte {error.object[error.start]:#x})") from None


def csv_row(*values: object) -> str:
    """A row without its end. A lone carriage return is in quotation marks, too: readers take it for a line break."""
    row = io.StringIO()
    csv.writer(row).writerow(values)
    return row.getvalue().removesuffix("\r\n")


def write(line: str) -> None:
    """Print a line: to a file or a pipe in UTF-8, as input is; to a terminal with its control characters as escapes."""
    if sys.stdout.isatty():
        print(visible(line))
    else:
        sys.stdout.buffer.write(f"{line}\n".encode())


if __name__ == "__main__":
    run(main)
