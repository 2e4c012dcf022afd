"""Corpora of a few sentences, in chunks of three; and the real one."""

from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from test_encoding import IDS, SENTENCE

from cola.core.params import Tokenize
from cola.data import corpus, encoding, tables, tokenize

SHORT = [101, 2027, 2187, 1012, 102]
LABELS = ["unacceptable", "acceptable"]


class Result(NamedTuple):
    metrics: dict
    tables: dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def tokenizer(encoder_folder):
    return encoding.load_tokenizer(encoder_folder)


@pytest.fixture(scope="module")
def tiny_tokenizer(tmp_path_factory):
    return encoding.load_tokenizer(tiny.encoder(tmp_path_factory.mktemp("tiny")))


def table_of(rows):
    """Tuples of sentence_source, label number, sentence, as corpus.read returns them."""
    return pa.table(dict(zip(corpus.COLUMNS, map(list, zip(*rows, strict=True)), strict=True)))


def tokenized(tokenizer, training_file, test, max_length=64, fraction=0.1):
    """Tokenize a corpus as the stage does."""
    settings = Tokenize(max_length=max_length, validation_fraction=fraction, training_sentences=None)
    splits = tokenize.split_rows(training_file, test, settings, 42)
    found = tokenize.tokenize_splits(splits, tokenizer, max_length)
    metrics = tokenize.corpus_metrics(found, max_length, 2)
    return Result(metrics, {name: table.to_pandas() for name, table in found.items()})


def test_the_tables_of_a_small_corpus(tokenizer):
    training_file = [("all", 1, SENTENCE), ("all", 0, "They left."), ("all", 1, "They left.")]  # 19, 5 and 5 tokens
    test = [("a", 1, SENTENCE + " " + SENTENCE), ("b", 1, SENTENCE), ("c", 0, "They left.")]
    found = tokenized(tokenizer, table_of(training_file), table_of(test), max_length=19, fraction=0.4)
    assert list(found.tables) == list(tables.SPLITS)
    assert found.tables["test"]["input_ids"].map(list).to_list() == [IDS, IDS, SHORT]
    assert found.tables["test"]["length"].to_list() == [36, 19, 5], "before the cut"
    assert found.tables["test"]["sentence_source"].to_list() == ["a", "b", "c"]
    order = [2, 1, 0]  # NumPy's default_rng(42).permutation(3)
    training_and_validation = pd.concat([found.tables["train"], found.tables["validation"]])
    assert training_and_validation["label"].to_list() == [training_file[index][1] for index in order]
    assert training_and_validation["input_ids"].map(list).to_list() == [(IDS, SHORT, SHORT)[index] for index in order]


@pytest.mark.parametrize(("classes", "positives"), [(2, {"test_positives": 1}), (3, {})])
def test_the_metrics_of_a_corpus_by_hand(classes, positives):
    labels_and_lengths = {
        "train": pa.table({"label": [0, 1], "length": [3, 9]}),
        "validation": pa.table({"label": [1], "length": [6]}),
        "test": pa.table({"label": [0, 1], "length": [4, 20]}),
    }
    found = tokenize.corpus_metrics(labels_and_lengths, 8, classes)
    assert found == {
        "training_sentences": 2,
        "validation_sentences": 1,
        "test_sentences": 2,
        **positives,
        "longest_sentence": 9,
        "mean_length": 6.0,
        "truncated_sentences": 2,
    }
    assert all(type(value) in (int, float) for value in found.values()), "JSON takes these"


def test_the_real_corpus_has_the_tutorials_lengths(tokenizer, raw):
    found = tokenized(tokenizer, *(corpus.read(raw / name, LABELS) for name in ("train.csv", "test.csv")))
    assert found.metrics == {
        "training_sentences": 7695,
        "validation_sentences": 856,
        "test_sentences": 516,
        "test_positives": 354,
        "longest_sentence": 47,
        "mean_length": pytest.approx(11.33, abs=0.005),
        "truncated_sentences": 0,
    }
    input_ids = [ids for table in found.tables.values() for ids in table["input_ids"]]
    assert len(input_ids) == 9067
    assert all(ids[0] == 101 and ids[-1] == 102 for ids in input_ids)


@settings(max_examples=25)
@given(st.integers(2, 20), st.integers(1, 20), st.floats(0.1, 0.5))
def test_chunks_of_three_make_the_same_tables_as_one(tiny_tokenizer, training, test, fraction):
    rows = [table_of([("all", row % 2, f"word{row}") for row in range(count)]) for count in (training, test)]
    whole = tokenized(tiny_tokenizer, *rows, fraction=fraction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenize, "CHUNK", 3)
        divided = tokenized(tiny_tokenizer, *rows, fraction=fraction)
    assert divided.metrics == whole.metrics
    for name in tables.SPLITS:
        pd.testing.assert_frame_equal(divided.tables[name], whole.tables[name])
    training_file = pd.concat([whole.tables["train"], whole.tables["validation"]])
    assert sorted(training_file["sentence"]) == sorted(f"word{row}" for row in range(training))
