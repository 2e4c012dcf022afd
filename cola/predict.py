"""Classify the sentence of the command line, or every line of standard input, with the trained model.

`python -m cola.predict "The book was written by John."`
`python -m cola.predict < sentences.txt > predicted.csv`
"""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.report_import_errors()

import csv
import io
import sys
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

import torch

from cola.core import files, params, paths, progress
from cola.core.errors import UserError, escape, run
from cola.data import tutorial
from cola.model.device import choose_precision, prepare_device
from cola.model.prediction import Predictor
from cola.report.workspace import NO_RESULT

CHUNK = 4096  # lines that are read, classified and written together; bounds the memory


def main() -> None:
    sentence = " ".join(sys.argv[1:])
    if sentence in ("-h", "--help"):
        print(__doc__)
        return
    if not sentence.strip() and (sys.argv[1:] or sys.stdin.isatty()):
        raise UserError('no sentence given; try: make predict TEXT="The book was written by John."')
    if not paths.FINETUNED.exists():
        raise UserError(NO_RESULT)
    source = files.read_json(files.verify(paths.FINETUNED) / "source.json")
    settings = params.load(paths.PARAMS)
    if sentence:  # starting a GPU would take longer than the CPU takes
        text = decode(sentence.encode(errors="surrogateescape"), "the sentence")
        predictor = Predictor(paths.FINETUNED, torch.device("cpu"), torch.float32)
        ((label, probability),) = predictor.classify([text])
        write(f"{label} ({probability:.2f})  {text}  [{tutorial.make_title(source)}]")
        warn_of_cut_texts(predictor)
        return
    device = prepare_device(settings.device)
    predictor = Predictor(paths.FINETUNED, device, choose_precision(settings.precision, device))
    write(format_row("text", "label", "probability"))
    for lines in read_chunks(sys.stdin.buffer):
        predictions = iter(predictor.classify(filter(str.strip, lines)))
        for line in lines:  # an empty line becomes a row without a label, so that rows and lines agree
            write(format_row(line, *(next(predictions) if line.strip() else ("", ""))))
    warn_of_cut_texts(predictor)


def warn_of_cut_texts(predictor: Predictor) -> None:
    """Print a note, on standard error, if the model did not read all of a text."""
    if predictor.cut_texts:
        limit, cut = predictor.tokenizer.model_max_length, predictor.cut_texts
        print(f"note: sentences with more tokens than the training's {limit}, which are cut: {cut:,}", file=sys.stderr)


def read_chunks(stream: BinaryIO) -> Iterator[list[str]]:
    """Yield the lines of a stream, CHUNK at a time, with a progress bar. Raises UserError as decode does."""
    with progress.make_bar(None, "sentences", "classified") as bar:
        numbered = enumerate(stream, 1)
        while chunk := list(islice(numbered, CHUNK)):
            yield [decode(line, f"standard input, line {number}") for number, line in chunk]
            bar.update(len(chunk))


def decode(line: bytes, name: str) -> str:
    """Return a line as text, without its end and byte order mark. Raises UserError with `name` if it is not UTF-8."""
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 (byte {error.object[error.start]:#x})") from None
    if "\0" in text:
        raise UserError(f"{name}: not UTF-8 (byte 0x0, as in UTF-16)")
    return text


def format_row(*values: object) -> str:
    """Return a row without its end. It quotes a lone carriage return, which readers would take for a line break."""
    row = io.StringIO()
    csv.writer(row).writerow(values)
    return row.getvalue().removesuffix("\r\n")


def write(line: str) -> None:
    """Print a line: to a file or a pipe in UTF-8, to a terminal with control characters as escapes."""
    if sys.stdout.isatty():
        print(escape(line))
    else:
        sys.stdout.buffer.write(f"{line}\n".encode())


if __name__ == "__main__":
    run(main)
