"""Classifies sentences with the trained model: the one given, or each line of standard input, to a CSV.

`python -m cola.predict "The book was written by John."`, `python -m cola.predict < sentences.txt > predicted.csv`
"""

import csv
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

CHUNK = 4096  # lines that are read, classified and written together: what bounds the memory


def main() -> None:
    sentence = " ".join(sys.argv[1:]).strip()
    if not sentence and (sys.argv[1:] or sys.stdin.isatty()):
        raise UserError('no sentence given; try: make predict TEXT="The book was written by John."')
    if not paths.FINETUNED.exists():
        raise UserError(
            f"{paths.FINETUNED} has no trained model; run `make repro`, or `make demo` and `dvc exp apply demo`"
        )
    source = files.read_json(files.verified(paths.FINETUNED) / "source.json")
    settings = params.load(paths.PARAMS)
    if sentence:  # one sentence is not worth waking a GPU
        predictor = Predictor(paths.FINETUNED, torch.device("cpu"), torch.float32)
        ((label, probability),) = predictor.classify([sentence])
        print(f"{label} ({probability:.2f})  {sentence}  [{tutorial.title(source)}]")
        return
    device = prepare_device(settings.device)
    predictor = Predictor(paths.FINETUNED, device, choose_precision(settings.precision, device))
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("text", "label", "probability"))
    for lines in chunks(sys.stdin.buffer):
        predictions = iter(predictor.classify(line for line in lines if line))
        # An empty line has a row without a label: rows and lines agree.
        table.writerows((line, *(next(predictions) if line else ("", ""))) for line in lines)


def chunks(stream: BinaryIO) -> Iterator[list[str]]:
    """The lines of a file or a pipe, CHUNK at a time, with a progress bar. Raises UserError, naming the line, at bytes
    that are not UTF-8."""
    status = os.fstat(stream.fileno())
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    number = 0
    with progress.bar(size, "B" if size else "sentences", "classified") as bar:
        while chunk := list(islice(stream, CHUNK)):
            lines = []
            for line in chunk:
                number += 1
                try:
                    lines.append(line.decode("utf-8-sig" if number == 1 else "utf-8").strip())
                except UnicodeDecodeError as error:
                    raise UserError(f"standard input, line {number}: not UTF-8 (byte {line[error.start]:#x})") from None
            yield lines
            bar.update(sum(map(len, chunk)) if size else len(chunk))


if __name__ == "__main__":
    run(main)
