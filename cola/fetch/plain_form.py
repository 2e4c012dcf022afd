"""Writes a corpus to data/raw in one form, train.csv and test.csv, and prints its contents for people to check."""

import csv
import re
from array import array
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import numpy as np

from cola.core.errors import UserError, escape
from cola.fetch.tables import Row, Rows, normalize

MOST_SHOWN = 10  # labels
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?")
LIST = re.compile(r"\[.*\]")  # ['a', 'b'], as pandas writes a list
FRACTION = re.compile(r"[+-]?\d*\.\d*[1-9]\d*")  # 2.5, but not 2.0
Looks = dict[str | Decimal, str]  # a label by its look to people: 1, 1.0 and 01 look the same, as do True and TRUE


class Contents:
    """Counts of a table. Texts are hashes, 8 bytes a row, so that a large corpus fits in memory."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()  # sentences of each label
        self.sources: set[str] = set()
        self.texts, self.labelled_texts = array("q"), array("q")
        self.of_several_lines = 0

    def add(self, row: Row) -> None:
        self.labels[row.label] += 1
        self.sources.add(row.sentence_source)
        self.texts.append(hash(row.sentence))
        self.labelled_texts.append(hash((row.sentence, row.label)))
        self.of_several_lines += "\n" in row.sentence


def write_corpus(folder: Path, training: Rows, test: Rows) -> list[str]:
    """Write train.csv and test.csv to `folder`, and print their contents. Returns the labels' names by number.

    Raises UserError, with file and line, for labels that look the same and for a test label that training lacks; also
    for a single label.
    """
    looks: Looks = {}
    in_training = _write(folder / "train.csv", training, looks, is_test=False)
    labels = sort_labels(in_training.labels)
    if len(labels) == 1:
        raise UserError(f"label '{_show(labels[0])}' is the only one in the training table: a corpus has two or more")
    in_test = _write(folder / "test.csv", test, looks, is_test=True)
    print(f"training: {_describe(in_training)}\ntest: {_describe(in_test)}")
    for fact, count in _compare(in_training, in_test).items():
        if count:
            print(f"note: {fact}: {count:,}")
    if absent := [_show(label) for label in labels if label not in in_test.labels]:
        print(f"note: labels without a test sentence: {', '.join(absent[:MOST_SHOWN])}")
    return labels


def sort_labels(labels: Iterable[str]) -> list[str]:
    """The labels in numeric order if all are integers, else in alphabetical order."""
    names = sorted(labels)
    return sorted(names, key=Decimal) if all(re.fullmatch(r"-?\d+", name) for name in names) else names


def _write(path: Path, rows: Rows, looks: Looks, is_test: bool) -> Contents:
    """Write rows to a CSV in UTF-8 whose header is Row's fields. Raises UserError as _check_label."""
    contents = Contents()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        for where, row in rows:
            if row.label not in contents.labels:
                _check_label(where, row.label, looks, is_test)
            contents.add(row)
            writer.writerow(row)
    return contents


def _check_label(where: str, label: str, looks: Looks, is_test: bool) -> None:
    """Add a training label to `looks`. Raises UserError if it looks like another, and for a test label that is new."""
    normal = normalize(label)
    look = Decimal(normal) if NUMBER.fullmatch(normal) else normal
    if is_test and look not in looks:
        names = ", ".join(map(_show, sorted(looks.values())))[:200]
        raise UserError(f"{where}: label '{_show(label)}' is not among the training labels ({names})")
    alike = looks.setdefault(look, label)
    if alike != label:
        raise UserError(
            f"{where}: label {label[:40]!a} looks like {alike[:40]!a}: write both the same way, or rename one"
        )


def _describe(contents: Contents) -> str:
    """'59 sentences; labels: question 20, request 20, statement 19; no column source'"""
    labels = [f"{_show(label)} {count:,}" for label, count in contents.labels.most_common(MOST_SHOWN)]
    if more := len(contents.labels) - len(labels):
        labels.append(f"and {more:,} more")
    sources = "no column source" if contents.sources == {"all"} else f"sources: {len(contents.sources):,}"
    return f"{contents.labels.total():,} sentences; labels: {', '.join(labels)}; {sources}"


def _compare(training: Contents, test: Contents) -> dict[str, int]:
    """Numbers of sentences that may be mistakes, by kind."""
    in_training, in_test = np.unique(training.texts), np.unique(test.texts)
    texts = np.union1d(in_training, in_test)
    labelled = np.union1d(training.labelled_texts, test.labelled_texts)
    of_several_lines = training.of_several_lines + test.of_several_lines
    lists = [label for label in training.labels if LIST.fullmatch(label)]
    fractions = [label for label in training.labels if FRACTION.fullmatch(label)]
    return {
        "repeated training sentences": len(training.texts) - len(in_training),
        "repeated test sentences": len(test.texts) - len(in_test),
        "test sentences that are also in training": int(np.isin(in_test, in_training).sum()),
        "sentences with two labels": len(labelled) - len(texts),
        "sentences of several lines (are their quotation marks right?)": of_several_lines,
        "labels that are lists (each list is a class: a sentence has one label)": len(lists),
        "labels with a fraction (the model predicts classes, not numbers)": len(fractions),
    }


def _show(label: str) -> str:
    """A label for a message: in one line, at most 40 characters."""
    return escape(label[:40])
