"""A corpus -> data/raw: train.csv and test.csv in one plain form. What they hold is printed, for people to check."""

import csv
import re
from array import array
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np

from cola.core.errors import UserError, escape
from cola.fetch.tables import Row, Rows, normalize

MOST_SHOWN = 10  # labels
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?")


class Contents:
    """What a table holds. Texts are kept as hashes, 8 bytes a row, so that a large corpus fits in memory."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()  # sentences of each label
        self.first: dict[str, str] = {}  # where each label stands first
        self.sources: Counter[str] = Counter()
        self.texts, self.labelled_texts = array("q"), array("q")
        self.of_several_lines = 0

    def add(self, where: str, row: Row) -> None:
        self.labels[row.label] += 1
        self.first.setdefault(row.label, where)
        self.sources[row.sentence_source] += 1
        self.texts.append(hash(row.sentence))
        self.labelled_texts.append(hash((row.sentence, row.label)))
        self.of_several_lines += "\n" in row.sentence


def write_corpus(folder: Path, training: Rows, test: Rows) -> list[str]:
    """Write train.csv and test.csv to `folder`, and print what they hold. Returns the labels' names by number.

    Raises UserError, with file and line, for a single label, for labels that people would take for the same, and for a
    label of the test that training lacks.
    """
    in_training = _write(folder / "train.csv", training)
    labels = sort_labels(in_training.first)
    in_test = _write(folder / "test.csv", test, in_training.first)
    print(f"training: {_describe(in_training)}\ntest: {_describe(in_test)}")
    for fact, count in _compare(in_training, in_test).items():
        if count:
            print(f"note: {fact}: {count:,}")
    if absent := [_show(label) for label in labels if label not in in_test.labels]:
        print(f"note: labels without a test sentence: {', '.join(absent[:MOST_SHOWN])}")
    return labels


def sort_labels(first: Mapping[str, str]) -> list[str]:
    """The labels in numeric order if all are integers, else in alphabetical order.

    `first` says where each stands first. Raises UserError for a single label, and for labels that look the same.
    """
    seen: dict[str | Decimal, str] = {}
    for label, where in first.items():
        look = normalize(label)
        alike = seen.setdefault(Decimal(look) if NUMBER.fullmatch(look) else look, label)
        if alike != label:
            raise UserError(f"{where}: label {label[:40]!a} looks like {alike[:40]!a}: write both the same way")
    if len(first) == 1:
        raise UserError(f"{where}: label {label[:40]!a} is the only one: a corpus has two labels or more")
    names = sorted(first)
    return sorted(names, key=Decimal) if all(re.fullmatch(r"-?\d+", name) for name in names) else names


def _write(path: Path, rows: Rows, known: Mapping[str, str] | None = None) -> Contents:
    """Write rows to a CSV in UTF-8 whose header is Row's fields. Raises UserError for a label that is not `known`."""
    contents = Contents()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        for where, row in rows:
            if known is not None and row.label not in known:
                sort_labels({**known, row.label: where})
                names = ", ".join(map(_show, sorted(known)))[:200]
                raise UserError(f"{where}: label '{_show(row.label)}' is not among the training labels ({names})")
            contents.add(where, row)
            writer.writerow(row)
    return contents


def _describe(contents: Contents) -> str:
    """'59 sentences; labels: question 20, request 20, statement 19; no column source'"""
    labels = [f"{_show(label)} {count:,}" for label, count in contents.labels.most_common(MOST_SHOWN)]
    if more := len(contents.labels) - len(labels):
        labels.append(f"and {more:,} more")
    sources = "no column source" if contents.sources.keys() == {"all"} else f"sources: {len(contents.sources):,}"
    return f"{contents.labels.total():,} sentences; labels: {', '.join(labels)}; {sources}"


def _compare(training: Contents, test: Contents) -> dict[str, int]:
    """How many sentences the tables have of each kind that may be a mistake."""
    in_training, in_test = np.unique(training.texts), np.unique(test.texts)
    texts = np.union1d(in_training, in_test)
    labelled = np.union1d(training.labelled_texts, test.labelled_texts)
    return {
        "training sentences that are there twice": len(training.texts) - len(in_training),
        "test sentences that are there twice": len(test.texts) - len(in_test),
        "test sentences that are in training, too": int(np.isin(in_test, in_training).sum()),
        "sentences with two labels": len(labelled) - len(texts),
        "sentences of several lines": training.of_several_lines + test.of_several_lines,
    }


def _show(label: str) -> str:
    """A label as it is printed: in one line, and not longer than 40 characters."""
    return escape(label[:40])
