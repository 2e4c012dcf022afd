"""The plain form of a corpus, the lines that are printed about it, and the labels that are refused."""

import re

import pytest

from cola.core.errors import UserError
from cola.fetch import plain_form
from cola.fetch.tables import Row


def locate(name, rows):
    """Rows as tables.read_table yields them: with their positions, from line 2 on."""
    return ((f"{name}.csv, line {line}", Row(*row)) for line, row in enumerate(rows, 2))


def write(folder, training, test):
    return plain_form.write_corpus(folder, locate("train", training), locate("test", test))


def test_the_plain_form_has_a_header_and_quotes_what_needs_them(tmp_path):
    labels = write(tmp_path, [("gj04", "yes", 'He said "go", twice.'), ("all", "no", "two\nlines")], [("", "no", "a")])
    assert labels == ["no", "yes"]
    assert (tmp_path / "train.csv").read_bytes() == (
        b'sentence_source,label,sentence\r\ngj04,yes,"He said ""go"", twice."\r\nall,no,"two\nlines"\r\n'
    )
    assert (tmp_path / "test.csv").read_bytes() == b"sentence_source,label,sentence\r\n,no,a\r\n"


def test_the_contents_of_a_corpus_are_printed(tmp_path, capsys):
    training = [("yes", "a"), ("no", "b\nc"), ("no", "a"), ("yes", "a"), ("\x1b[", "d")]
    write(tmp_path, [("all", *row) for row in training], [("x", "no", "a"), ("y", "no", "e"), ("y", "no", "e")])
    assert capsys.readouterr().out.splitlines() == [
        "training: 5 sentences; labels: yes 2, no 2, \\x1b[ 1; no column source",
        "test: 3 sentences; labels: no 3; sources: 2",
        "note: repeated training sentences: 2",
        "note: repeated test sentences: 1",
        "note: test sentences that are also in training: 1",
        "note: sentences with two labels: 1",
        "note: sentences of several lines (are their quotation marks right?): 1",
        "note: labels without a test sentence: \\x1b[, yes",
    ]


@pytest.mark.parametrize(("labels", "noted"), [(("2.5", "-.5", "3"), "2"), (("1.0", "0.0"), ""), (("v2.5", "b"), "")])
def test_numbers_with_a_fraction_are_noted(tmp_path, capsys, labels, noted):
    write(tmp_path, [("all", label, f"sentence {label}") for label in labels], [])
    note = re.search(
        r"note: labels with a fraction \(the model predicts classes, not numbers\): (.*)", capsys.readouterr().out
    )
    assert (note[1] if note else "") == noted


def test_lists_of_labels_are_noted(tmp_path, capsys):
    write(tmp_path, [("all", label, "a sentence") for label in ("['a', 'b']", "['a']", "[a", "a")], [])
    assert "note: labels that are lists (each list is a class: a sentence has one label): 2" in capsys.readouterr().out


def test_many_labels_are_printed_in_a_short_line(tmp_path, capsys):
    rows = [("all", f"label {number}", f"sentence {number}") for number in range(1500)]
    assert len(write(tmp_path, rows, rows[:1])) == 1500
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("label 9 1, and 1,490 more; no column source")
    assert max(map(len, lines)) < 200


def test_labels_are_in_the_order_of_numbers_or_of_the_alphabet():
    assert plain_form.sort_labels(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert plain_form.sort_labels(["b", "a", "10", "9"]) == ["10", "9", "a", "b"]
    assert plain_form.sort_labels(["9" * 5000, "7"]) == ["7", "9" * 5000]


@pytest.mark.parametrize(
    ("label", "alike"),
    [
        ("1", "1.0"),
        ("1", "01"),
        ("1", "1e0"),
        (".5", "0.50"),
        ("True", "TRUE"),
        ("n\xe9", "ne\u0301"),
        ("1", "\ufeff1"),
    ],
)
def test_labels_that_look_alike_are_refused_until_they_are_the_same(tmp_path, label, alike):
    rows = [("all", label, "a"), ("all", "zero", "b"), ("all", alike, "c")]
    fault = f"train.csv, line 4: label {alike!a} looks like {label!a}: write both the same way, or rename one"
    with pytest.raises(UserError, match=f"^{re.escape(fault)}$"):
        write(tmp_path, rows, [])
    with pytest.raises(UserError, match=r"^test.csv, line 4: label .* looks like"):
        write(tmp_path, rows[:2], rows)
    assert len(write(tmp_path, [*rows[:2], ("all", f"not {alike}", "c")], [])) == 3
    assert write(tmp_path, [*rows[:2], rows[0]], rows[:2]) == sorted([label, "zero"])


def test_labels_that_a_corpus_cannot_have_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"^label 'a' is the only one in the training table: a corpus has two or more$"):
        write(tmp_path, [("all", "a", "b")] * 3, [])
    with pytest.raises(UserError, match=r"^test.csv, line 2: label 'c' is not among the training labels \(a, b\)$"):
        write(tmp_path, [("all", "a", "b"), ("all", "b", "b")], [("all", "c", "b")])
