"""Corpora of a few sentences, in pieces of three; the real one; and a run that is killed."""

import os
import time
from contextlib import suppress

import pandas as pd
import pyarrow.parquet as pq
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from test_encoding import IDS, SENTENCE

from cola.core import paths
from cola.core.errors import UserError
from cola.core.params import Tokenize
from cola.data import corpus, encoding, tokenize
from cola.model import batching

SHORT = [101, 2027, 2187, 1012, 102]
SOURCE = {"name": "tiny", "labels": ["no", "yes"]}


@pytest.fixture(scope="module")
def tokenizer(encoder_folder):
    return encoding.load_tokenizer(encoder_folder)


def write(folder, tokenizer, training_file, test, max_length=64, fraction=0.1, source=SOURCE):
    """What is said of a corpus, and its tables, by name."""
    kept = folder / "kept"
    for each in (folder, kept):
        each.mkdir(exist_ok=True)
    recipe = Tokenize(max_length=max_length, validation_fraction=fraction)
    said = tokenize.write_tables(folder, kept, training_file, test, tokenizer, recipe, 42, source)
    return said, {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "validation", "test")}


def test_what_is_said_of_a_small_corpus(tokenizer, tmp_path):
    training_file = [("all", 1, SENTENCE), ("all", 0, "They left."), ("all", 1, "They left.")]  # 19, 5 and 5 tokens
    test = [("a", 1, SENTENCE + " " + SENTENCE), ("b", 1, SENTENCE), ("c", 0, "They left.")]
    said, tables = write(tmp_path, tokenizer, training_file, test, max_length=19, fraction=0.4)
    assert said == {
        "training_sentences": 1,
        "validation_sentences": 2,
        "test_sentences": 3,
        "test_positives": 2,
        "longest_sentence": 19,
        "mean_length": pytest.approx(29 / 3),
        "truncated_sentences": 1,
    }
    assert tables["test"].attrs == SOURCE
    assert tables["test"]["input_ids"].map(list).to_list() == [IDS, IDS, SHORT]
    assert tables["test"]["sentence_source"].to_list() == ["a", "b", "c"]
    order = [2, 1, 0]  # NumPy's default_rng(42).permutation(3)
    found = pd.concat([tables["train"], tables["validation"]])
    assert found["label"].to_list() == [training_file[place][1] for place in order]
    assert found["input_ids"].map(list).to_list() == [(IDS, SHORT, SHORT)[place] for place in order]


def test_the_real_corpus_has_the_tutorials_lengths(tokenizer, raw, tmp_path):
    files = [corpus.read_tsv(raw / name) for name in (corpus.TRAINING_FILE, corpus.TEST_FILE)]
    said, tables = write(tmp_path, tokenizer, *files)
    assert said == {
        "training_sentences": 7695,
        "validation_sentences": 856,
        "test_sentences": 516,
        "test_positives": 354,
        "longest_sentence": 47,
        "mean_length": pytest.approx(11.33, abs=0.005),
        "truncated_sentences": 0,
    }
    every = [ids for table in tables.values() for ids in table["input_ids"]]
    assert len(every) == 9067
    assert all(ids[0] == 101 and ids[-1] == 102 for ids in every)
    assert len(batching.split_into_batches(batching.shuffled_order(len(tables["train"]), 42, 1), 32)) == 241


@settings(max_examples=40)  # each writes files
@given(st.integers(2, 20), st.integers(1, 20), st.floats(0.1, 0.5))
def test_pieces_of_three_make_the_same_tables_as_one(tmp_path_factory, training, test, fraction):
    folder = tmp_path_factory.mktemp("pieces")
    small = encoding.load_tokenizer(tiny.encoder(folder))
    rows = [[("all", row % 2, f"word{row}") for row in range(count)] for count in (training, test)]
    said, tables = write(folder / "whole", small, *rows, fraction=fraction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenize, "PIECE", 3)
        said_of_pieces, in_pieces = write(folder / "pieces", small, *rows, fraction=fraction)
    assert said_of_pieces == said
    for name, table in tables.items():
        assert in_pieces[name].equals(table)
        groups = pq.ParquetFile(folder / f"pieces/{name}.parquet").num_row_groups
        assert groups == -(-len(table) // 3)
    assert sorted(pd.concat(list(tables.values())[:2])["sentence"]) == sorted(sentence for *_, sentence in rows[0])


def test_what_was_done_before_a_kill_is_not_done_again(tmp_path, monkeypatch):
    small = encoding.load_tokenizer(tiny.encoder(tmp_path))
    monkeypatch.setattr(tokenize, "PIECE", 3)
    rows = [("all", row % 2, f"word{row % 35}") for row in range(40)]
    _, expected = write(tmp_path / "undisturbed", small, rows, rows[:7])
    encode, calls = encoding.encode, []

    def killed_at_the_fifth(*arguments):
        calls.append(arguments[0])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(encoding, "encode", killed_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "killed", small, iter(rows), iter(rows[:7]))
    assert len(list((tmp_path / "killed/kept").glob("*.parquet"))) == 4
    never = iter(lambda: pytest.fail("the rows are there"), None)
    _, found = write(tmp_path / "killed", small, never, never)
    assert len(calls) == 5 + 12 + 2 + 3 - 4
    for name, table in expected.items():
        assert found[name].equals(table)


def test_too_long_and_too_few_are_refused(tmp_path):
    small = encoding.load_tokenizer(tiny.encoder(tmp_path))
    with pytest.raises(UserError, match=r"^tokenize\.max_length is 65, and this encoder takes at most 64$"):
        write(tmp_path, small, [], [], max_length=65)
    with pytest.raises(UserError, match=r"^1 sentences cannot be split"):
        write(tmp_path, small, [("all", 1, "word1")], [("all", 1, "word1")])


def test_what_is_kept_is_of_one_configuration_and_goes_when_all_went_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "SCRATCH", tmp_path / "scratch")
    for folder in (paths.RAW, paths.PRETRAINED):
        folder.mkdir(parents=True)
        (folder / "SHA256SUMS").write_text("sums")
    recipe = Tokenize(max_length=64, validation_fraction=0.1)

    def interrupted(recipe, seed):
        with suppress(KeyboardInterrupt), tokenize.scratch_folder(recipe, seed) as folder:
            (folder / "piece").touch()
            raise KeyboardInterrupt
        return folder

    first = interrupted(recipe, 42)
    assert len({first, interrupted(recipe, 43), interrupted(recipe.model_copy(update={"max_length": 63}), 42)}) == 3
    (paths.RAW / "SHA256SUMS").write_text("others")
    assert interrupted(recipe, 42) != first
    (paths.RAW / "SHA256SUMS").write_text("sums")
    week = time.time() - 8 * 24 * 3600
    os.utime(interrupted(recipe, 44), (week, week))
    with tokenize.scratch_folder(recipe, 42) as folder:
        assert folder == first
        assert (folder / "piece").exists()
    assert len(list((tmp_path / "scratch/tokenize").iterdir())) == 3
