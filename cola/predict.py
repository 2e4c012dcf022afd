"""Judges sentences with the trained model: one that is given, or each line of standard input, to a CSV.

`python -m cola.predict "The book was written by John."`, `python -m cola.predict < sentences.txt > judged.csv`
"""

import csv
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO

import torch

from cola.core import files, params, paths, progress
from cola.core.errors import UserError, run
from cola.data import encoding, tutorial
from cola.model import classifier, hardware, metrics, prediction

CHUNK = 4096  # sentences that are read, judged and written together: what bounds the memory


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
    tokenizer = encoding.load_tokenizer(paths.FINETUNED)
    # One sentence is not worth waking a GPU.
    device = torch.device("cpu") if sentence else hardware.choose_device(settings.device)
    precision = torch.float32 if sentence else hardware.choose_precision(settings.precision, device)
    model = prediction.prepare(classifier.load(paths.FINETUNED, device), precision)

    def judge(sentences: Iterable[str]) -> Iterator[tuple[str, float]]:
        """The label of each sentence, and its probability."""
        input_ids, _ = encoding.encode(sentences, tokenizer, settings.tokenize.max_length)
        for probabilities in metrics.probabilities(prediction.predict_logits(model, input_ids, precision)):
            yield classifier.label_names(model)[probabilities.argmax()], probabilities.max()

    if sentence:
        ((label, probability),) = judge([sentence])
        print(f"{label} ({probability:.2f})  {sentence}  [{tutorial.title(source)}]")
        return
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("text", "label", "probability"))
    for sentences in chunks(sys.stdin.buffer):
        # An empty line has a row of its own, and no label: rows and lines agree.
        judged = judge([each for each in sentences if each])
        table.writerows((each, *(next(judged) if each else ("", ""))) for each in sentences)


def chunks(lines: BinaryIO) -> Iterator[list[str]]:
    """The lines of a file or a pipe, CHUNK at a time, while a bar shows how far it is. Raises UserError at other bytes
    than UTF-8, naming the line."""
    status = os.fstat(lines.fileno())
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    number = 0
    with progress.bar(size, "B" if size else "sentences", "judged") as bar:
        while chunk := list(islice(lines, CHUNK)):
            sentences = []
            for line in chunk:
                number += 1
                try:
                    sentences.append(line.decode("utf-8-sig" if number == 1 else "utf-8").strip())
                except UnicodeDecodeError as error:
                    raise UserError(f"standard input, line {number}: not UTF-8 (byte {line[error.start]:#x})") from None
            yield sentences
            bar.update(sum(map(len, chunk)) if size else len(chunk))


if __name__ == "__main__":
    run(main)
