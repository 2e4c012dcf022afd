"""Corpora of a few sentences, in row groups of three; the real one; and a run that is killed."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from test_encoding import IDS, SENTENCE

from cola.core import paths
from cola.core.params import Tokenize
from cola.data import corpus, encoding, tables, tokenize

SHORT = [101, 2027, 2187, 1012, 102]
SOURCE = {"name": "tiny", "labels": ["no", "yes"]}


class Result(NamedTuple):
    metrics: dict
    tables: dict[str, pd.DataFrame]
    shards: dict[str, list[Path]]


@pytest.fixture(scope="module")
def tokenizer(encoder_folder):
    return encoding.load_tokenizer(encoder_folder)


@pytest.fixture(scope="module")
def tiny_tokenizer(tmp_path_factory):
    return encoding.load_tokenizer(tiny.encoder(tmp_path_factory.mktemp("tiny")))


def tokenized(folder, tokenizer, training_rows, test_rows, max_length=64, fraction=0.1):
    """Tokenize a corpus as the stage does, with `folder`/scratch as the scratch folder."""
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    raw = corpus.Corpus(training_rows, test_rows, SOURCE)
    settings = Tokenize(max_length=max_length, validation_fraction=fraction, training_sentences=None)
    splits = tokenize.store_splits(scratch, raw, settings, 42)
    shards = tokenize.tokenize_splits(scratch, splits, tokenizer, max_length)
    tokenize.write_tables(folder, shards, SOURCE)
    metrics = tokenize.corpus_metrics(tokenize.read_labels_and_lengths(shards), max_length, 2)
    return Result(metrics, {name: pd.read_parquet(folder / f"{name}.parquet") for name in tables.SPLITS}, shards)


def test_the_tables_of_a_small_corpus(tokenizer, tmp_path):
    training_file = [("all", 1, SENTENCE), ("all", 0, "They left."), ("all", 1, "They left.")]  # 19, 5 and 5 tokens
    test = [("a", 1, SENTENCE + " " + SENTENCE), ("b", 1, SENTENCE), ("c", 0, "They left.")]
    found = tokenized(tmp_path, tokenizer, training_file, test, max_length=19, fraction=0.4)
    assert found.tables["test"].attrs == SOURCE
    assert found.tables["test"]["input_ids"].map(list).to_list() == [IDS, IDS, SHORT]
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


def test_the_real_corpus_has_the_tutorials_lengths(tokenizer, raw, tmp_path):
    training_rows, test_rows = (corpus.read_tsv(raw / name) for name in (corpus.TRAINING_FILE, corpus.TEST_FILE))
    found = tokenized(tmp_path, tokenizer, training_rows, test_rows)
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


@settings(max_examples=25)  # every example writes files
@given(st.integers(2, 20), st.integers(1, 20), st.floats(0.1, 0.5))
def test_row_groups_of_three_make_the_same_tables_as_one(tmp_path_factory, tiny_tokenizer, training, test, fraction):
    folder = tmp_path_factory.mktemp("row-groups")
    rows = [[("all", row % 2, f"word{row}") for row in range(count)] for count in (training, test)]
    whole = tokenized(folder / "whole", tiny_tokenizer, *rows, fraction=fraction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenize, "ROW_GROUP", 3)
        divided = tokenized(folder / "divided", tiny_tokenizer, *rows, fraction=fraction)
    assert divided.metrics == whole.metrics
    for name, table in whole.tables.items():
        assert divided.tables[name].equals(table)
        groups = pq.ParquetFile(folder / f"divided/{name}.parquet").num_row_groups
        assert groups == len(divided.shards[name]) == -(-len(table) // 3)
    training_file = pd.concat([whole.tables["train"], whole.tables["validation"]])
    assert sorted(training_file["sentence"]) == sorted(sentence for *_, sentence in rows[0])


def test_the_work_of_a_killed_run_is_not_done_again(tmp_path, monkeypatch, tiny_tokenizer):
    monkeypatch.setattr(tokenize, "ROW_GROUP", 3)
    rows = [("all", row % 2, f"word{row % 35}") for row in range(40)]
    undisturbed = tokenized(tmp_path / "undisturbed", tiny_tokenizer, rows, rows[:7])
    encode, calls = encoding.encode, []

    def killed_at_the_fifth(*arguments):
        calls.append(arguments[0])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(encoding, "encode", killed_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        tokenized(tmp_path / "killed", tiny_tokenizer, iter(rows), iter(rows[:7]))
    assert len(list((tmp_path / "killed/scratch").glob("*.parquet"))) == 4
    not_read = iter(lambda: pytest.fail("the stored rows are read once more"), None)
    resumed = tokenized(tmp_path / "killed", tiny_tokenizer, not_read, not_read)
    assert len(calls) == 5 + 12 + 2 + 3 - 4
    assert resumed.metrics == undisturbed.metrics
    for name, table in undisturbed.tables.items():
        assert resumed.tables[name].equals(table)


def test_a_scratch_folder_is_of_one_configuration_and_goes_when_the_work_is_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "SCRATCH", tmp_path / "scratch")
    for folder in (paths.RAW, paths.PRETRAINED):
        folder.mkdir(parents=True)
        (folder / "SHA256SUMS").write_text("sums")
    recipe = Tokenize(max_length=64, validation_fraction=0.1, training_sentences=None)

    def interrupted(recipe, seed):
        with suppress(KeyboardInterrupt), tokenize.scratch_folder(recipe, seed) as folder:
            (folder / "shard").touch()
            raise KeyboardInterrupt
        return folder

    first = interrupted(recipe, 42)
    assert len({first, interrupted(recipe, 43), interrupted(recipe.model_copy(update={"max_length": 63}), 42)}) == 3
    (paths.RAW / "SHA256SUMS").write_text("others")
    assert interrupted(recipe, 42) != first
    (paths.RAW / "SHA256SUMS").write_text("sums")
    eight_days_ago = time.time() - 8 * 24 * 3600
    os.utime(interrupted(recipe, 44), (eight_days_ago, eight_days_ago))
    with tokenize.scratch_folder(recipe, 42) as folder:
        assert folder == first
        assert (folder / "shard").exists()
    assert len(list((tmp_path / "scratch/tokenize").iterdir())) == 3
