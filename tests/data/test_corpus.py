"""The one form of data/raw, which comes back as fetch wrote it; and the split."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cola.core.errors import UserError
from cola.data import corpus
from cola.fetch import tables
from cola.fetch.tables import Row

LABELS = ["no", "yes"]
NO_TYPE_IS_GUESSED = ["NA", "nan", "null", "NULL", "None", "", "1.0", "007", "1e3", "true", "2026-01-01", "#N/A", "\\N"]
QUOTED = ["a,b", '"', '""', 'a "b"', "two\nlines", "two\r\nlines", "old\rMac", "a\u2028b", "tab\there", "#", "日本"]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
rows_of_any_kind = st.builds(Row, texts, st.sampled_from(LABELS), texts)


def read_back(path, rows, labels=LABELS):
    """Write rows as fetch does, and read them as tokenize does: tuples of sentence_source, label number, sentence."""
    tables.write(path, rows)
    table = corpus.read(path, labels)
    return list(zip(*table.to_pydict().values(), strict=True))


def test_the_plain_form_by_hand(tmp_path):
    (tmp_path / "train.csv").write_text('sentence_source,label,sentence\ngj04,yes,"Go, he said."\n,no,NA\n')
    table = corpus.read(tmp_path / "train.csv", LABELS)
    assert table.to_pydict() == {
        "sentence_source": ["gj04", ""],
        "label": [1, 0],
        "sentence": ["Go, he said.", "NA"],
    }
    assert table.schema.types == [pa.large_string(), pa.int8(), pa.large_string()]


def test_texts_stay_texts_and_keep_every_character(tmp_path):
    texts = [*NO_TYPE_IS_GUESSED, *QUOTED, "  spaces around  "]
    rows = [Row(text, "yes", other) for text in texts for other in texts]
    assert len(rows) == 25**2
    assert read_back(tmp_path / "train.csv", rows) == [(row.sentence_source, 1, row.sentence) for row in rows]


def test_the_longest_row_that_fetch_accepts_is_read(tmp_path):
    longest = [Row('"' * 131_072, "yes", "\u65e5\n" * 65_536)] * 80  # 37 MB: several blocks
    assert read_back(tmp_path / "train.csv", longest) == [(row.sentence_source, 1, row.sentence) for row in longest]


@settings(max_examples=100)  # every example writes a file
@given(st.lists(rows_of_any_kind, min_size=1))
def test_rows_come_back_as_fetch_wrote_them(tmp_path_factory, rows):
    found = read_back(tmp_path_factory.getbasetemp() / "plain.csv", rows)
    assert found == [(row.sentence_source, LABELS.index(row.label), row.sentence) for row in rows]


def test_a_label_is_its_number_up_to_127_and_no_higher_number_is_taken_for_another(tmp_path):
    labels = [f"label {number}" for number in range(129)]
    rows = [Row("all", label, "Hello") for label in labels]
    assert [label for _, label, _ in read_back(tmp_path / "train.csv", rows[:128], labels)] == list(range(128))
    with pytest.raises(pa.ArrowInvalid, match="Integer value 128 not in range"):
        read_back(tmp_path / "train.csv", rows, labels)


def test_the_real_corpus_is_the_tutorials(raw):
    labels = ["unacceptable", "acceptable"]
    training_file = corpus.read(raw / "train.csv", labels).to_pandas()
    assert len(training_file) == 8551
    assert training_file["sentence"][0] == "Our friends won't buy this analysis, let alone the next one we propose."
    assert training_file["sentence"][8200] == "They kicked themselves"
    assert training_file["label"][4867] == 0
    test = corpus.read(raw / "test.csv", labels).to_pandas()
    assert (len(test), test["label"].sum()) == (516, 354)


@given(st.integers(2, 500), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_a_split_is_complete_disjoint_and_repeatable(count, fraction, seed):
    assume((1 - fraction) * count > 1.001)
    training, validation = corpus.split(count, fraction, seed)
    assert sorted([*training, *validation]) == list(range(count))
    assert fraction * count - 0.001 <= len(validation) < fraction * count + 1.001, "training is rounded down"
    again = corpus.split(count, fraction, seed)
    assert np.array_equal(training, again[0])
    assert np.array_equal(validation, again[1])


@given(st.integers(2, 200), st.integers(0, 2**32 - 1), st.data())
def test_fewer_training_sentences_are_among_the_more_and_leave_validation_alone(count, seed, data):
    training, validation = corpus.split(count, 0.5, seed)
    more = data.draw(st.integers(1, len(training)))
    fewer = data.draw(st.integers(1, more))
    splits = [corpus.split(count, 0.5, seed, number) for number in (fewer, more)]
    assert [len(split[0]) for split in splits] == [fewer, more]
    assert set(splits[0][0]) <= set(splits[1][0]) <= set(training)
    assert all(split[1].tolist() == validation.tolist() for split in splits)


def test_another_seed_takes_different_sentences():
    chosen = [set(corpus.split(1000, 0.1, seed, 100)[0]) for seed in (42, 43)]
    assert 0 < len(chosen[0] & chosen[1]) < 50


def test_more_training_sentences_than_there_are_is_refused():
    assert len(corpus.split(10, 0.2, 42, 8)[0]) == 8
    with pytest.raises(UserError, match=r"^tokenize.training_sentences=9: there are 8$"):
        corpus.split(10, 0.2, 42, 9)


def test_the_split_of_ten_sentences_with_seed_42():
    training, validation = corpus.split(10, 0.2, 42)  # NumPy's default_rng(42).permutation(10)
    assert training.tolist() == [5, 6, 0, 7, 3, 2, 4, 9]
    assert validation.tolist() == [1, 8]


@pytest.mark.parametrize(
    ("count", "fraction", "sizes"),
    [
        (8551, 0.1, (7695, 856)),  # the tutorial's
        (10, 0.8, (2, 8)),  # 10 * (1 - 0.8) is 1.9999999999999996 in floating point
    ],
)
def test_the_sizes_of_a_split(count, fraction, sizes):
    assert tuple(map(len, corpus.split(count, fraction, 42))) == sizes


@pytest.mark.parametrize(("count", "fraction"), [(0, 0.1), (1, 0.1), (1, 0.9), (2, 0.75)])
def test_a_split_with_an_empty_part_is_refused(count, fraction):
    with pytest.raises(
        UserError, match=f"^{count} sentences cannot be split with tokenize.validation_fraction={fraction}$"
    ):
        corpus.split(count, fraction, 42)
