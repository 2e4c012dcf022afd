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


@pytest.fixture(scope="module")
def tokenizer(encoder_folder):
    return encoding.load_tokenizer(encoder_folder)


@pytest.fixture(scope="module")
def tiny_tokenizer(tmp_path_factory):
    return encoding.load_tokenizer(tiny.encoder(tmp_path_factory.mktemp("tiny")))


def to_table(rows):
    """Return tuples of sentence_source, label number and sentence as corpus.read returns them."""
    return pa.table(dict(zip(corpus.COLUMNS, map(list, zip(*rows, strict=True)), strict=True)))


def tokenize_corpus(tokenizer, training_file, test, max_length=64, fraction=0.1):
    """Tokenize a corpus as the stage does. Returns (metrics, tables by split)."""
    settings = Tokenize(max_length=max_length, validation_fraction=fraction, training_sentences=None)
    splits = tokenize.split_rows(training_file, test, settings, 42)
    tokenized = tokenize.tokenize_splits(splits, tokenizer, max_length)
    metrics = tokenize.summarize(tokenized, max_length, 2)
    return metrics, {name: table.to_pandas() for name, table in tokenized.items()}


def test_a_small_corpus_by_hand(tokenizer):
    training_file = [("all", 1, SENTENCE), ("all", 0, "They left."), ("all", 1, "They left.")]  # 19, 5 and 5 tokens
    test = [("a", 1, SENTENCE + " " + SENTENCE), ("b", 1, SENTENCE), ("c", 0, "They left.")]
    metrics, splits = tokenize_corpus(tokenizer, to_table(training_file), to_table(test), max_length=19, fraction=0.4)
    assert list(splits) == list(tables.SPLITS)
    assert splits["test"]["input_ids"].map(list).to_list() == [IDS, IDS, SHORT]
    assert splits["test"]["length"].to_list() == [36, 19, 5], "before truncation"
    assert splits["test"]["sentence_source"].to_list() == ["a", "b", "c"]
    order = [2, 1, 0]  # NumPy's default_rng(42).permutation(3)
    training_and_validation = pd.concat([splits["train"], splits["validation"]])
    assert training_and_validation["label"].to_list() == [training_file[index][1] for index in order]
    assert training_and_validation["input_ids"].map(list).to_list() == [(IDS, SHORT, SHORT)[index] for index in order]
    assert metrics == {
        "training_sentences": 1,
        "validation_sentences": 2,
        "test_sentences": 3,
        "test_positives": 2,
        "longest_sentence": 19,
        "mean_length": (19 + 5 + 5) / 3,
        "truncated_sentences": 1,
    }
    assert all(type(value) in (int, float) for value in metrics.values()), "JSON takes these"


def test_labels_without_a_sentence_are_named_and_more_than_two_have_no_positives():
    table = pa.table({"label": [0, 2], "length": [3, 9]})
    assert tokenize.find_absent_labels(table, ["no", "perhaps", "yes"]) == ["perhaps"]
    assert "test_positives" not in tokenize.summarize(dict.fromkeys(tables.SPLITS, table), 8, 3)


def test_the_real_corpus_has_the_tutorials_lengths(tokenizer, raw):
    metrics, splits = tokenize_corpus(
        tokenizer, *(corpus.read(raw / f"{name}.csv", LABELS) for name in ("train", "test"))
    )
    assert metrics == {
        "training_sentences": 7695,
        "validation_sentences": 856,
        "test_sentences": 516,
        "test_positives": 354,
        "longest_sentence": 47,
        "mean_length": pytest.approx(11.33, abs=0.005),
        "truncated_sentences": 0,
    }
    input_ids = [ids for table in splits.values() for ids in table["input_ids"]]
    assert len(input_ids) == 9067
    assert all(ids[0] == 101 and ids[-1] == 102 for ids in input_ids)


@settings(max_examples=25)
@given(st.integers(2, 20), st.integers(1, 20), st.floats(0.1, 0.5))
def test_chunks_of_three_sentences_make_the_same_tables(tiny_tokenizer, training, test, fraction):
    rows = [to_table([("all", row % 2, f"word{row}") for row in range(count)]) for count in (training, test)]
    _, whole = tokenize_corpus(tiny_tokenizer, *rows, fraction=fraction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenize, "CHUNK", 3)
        _, divided = tokenize_corpus(tiny_tokenizer, *rows, fraction=fraction)
    for name in tables.SPLITS:
        pd.testing.assert_frame_equal(divided[name], whole[name])
    training_file = pd.concat([whole["train"], whole["validation"]])
    assert sorted(training_file["sentence"]) == sorted(f"word{row}" for row in range(training))
