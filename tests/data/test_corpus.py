import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cola.core.errors import UserError
from cola.data import corpus
from cola.fetch import plain_form
from cola.fetch.tables import Row

LABELS = ["no", "yes"]
HARD = ["NA", "nan", "None", "", "1.0", "007", "1e3", "true", "2026-01-01", "\\N", "a,b", '"', '""', "\n", "\r", "#"]
texts = st.one_of(st.sampled_from(HARD), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))


def read_back(folder, rows, labels=LABELS):
    """Write rows as fetch does, and return them as tokenize reads them: sentence_source, label number, sentence."""
    plain_form.write_corpus(folder, (("", row) for row in rows), iter(()))
    return list(zip(*corpus.read(folder / "train.csv", labels).to_pydict().values(), strict=True))


@settings(max_examples=100)  # every example writes a file
@given(st.lists(st.builds(Row, texts, st.sampled_from(LABELS), texts)))
def test_rows_come_back_as_fetch_wrote_them(tmp_path_factory, rows):
    rows += [Row(text, label, text) for text in HARD for label in LABELS]
    table = read_back(tmp_path_factory.getbasetemp(), rows)
    assert table == [(row.sentence_source, LABELS.index(row.label), row.sentence) for row in rows]


@pytest.mark.slow
def test_the_longest_rows_that_fetch_accepts_are_read(tmp_path):
    longest = [Row("\U0001f600" * 2**22, label, "\U0001f600" * 2**22) for label in [*LABELS, *LABELS]]  # several blocks
    lengths = [(len(source), label, len(text)) for source, label, text in read_back(tmp_path, longest)]
    assert lengths == [(2**22, label, 2**22) for label in (0, 1, 0, 1)]


@pytest.mark.parametrize(
    ("classes", "kind"), [(2, pa.int8()), (128, pa.int8()), (129, pa.int16()), (40_000, pa.int32())]
)
def test_a_label_is_its_number_in_the_narrowest_type(tmp_path, classes, kind):
    labels = [f"label {number}" for number in range(classes)]
    rows = read_back(tmp_path, [Row("all", label, "Hello") for label in labels], labels)
    assert [label for _, label, _ in rows] == list(range(classes))
    assert corpus.read(tmp_path / "train.csv", labels)["label"].type == kind


@given(st.integers(2, 200), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1), st.data())
def test_a_split_is_a_partition_that_repeats_and_a_smaller_one_is_within_it(count, fraction, seed, data):
    assume(0 < int(round((1 - fraction) * count, 9)) < count)
    labels = np.arange(count) % data.draw(st.integers(1, 5))
    training, validation = corpus.split(labels, fraction, seed)
    assert sorted([*training, *validation]) == list(range(count))
    assert fraction * count - 0.001 <= len(validation) < fraction * count + 1.001, "training is rounded down"
    more = data.draw(st.integers(1, len(training)))
    fewer = data.draw(st.integers(1, more))
    splits = [corpus.split(labels, fraction, seed, number) for number in (fewer, more)]
    assert [len(split[0]) for split in splits] == [fewer, more]
    assert set(splits[0][0]) <= set(splits[1][0]) <= set(training)
    assert all(split[1].tolist() == validation.tolist() for split in splits)


def test_the_split_of_ten_sentences_with_seed_42():
    training, validation = corpus.split(np.zeros(10), 0.2, 42)  # NumPy's default_rng(42).permutation(10)
    assert training.tolist() == [5, 6, 0, 7, 3, 2, 4, 9]
    assert validation.tolist() == [1, 8]
    assert corpus.split(np.array([0, 1] * 5), 0.2, 42)[1].tolist() == [1, 8], "each label is in both parts"
    assert corpus.split(np.zeros(10), 0.2, 43)[1].tolist() != [1, 8]


def test_a_split_that_would_lack_a_label_is_stratified():
    labels = np.repeat([0, 1, 2, 3], [80, 10, 9, 1])
    training, validation = corpus.split(labels, 0.1, 42)
    assert np.bincount(labels[validation], minlength=4).tolist() == [8, 1, 1, 0], "a tenth of each; the rare one trains"
    assert np.bincount(labels[corpus.split(labels, 0.1, 42, 45)[0]]).tolist() == [36, 5, 4]
    plain = np.random.default_rng(42).permutation(100)
    assert len(np.unique(labels[plain[90:]])) < 4
    assert training.tolist() != sorted(training), "in random order"


@pytest.mark.parametrize(
    ("count", "settings", "fault", "remedy"),
    [
        (2, (0.75,), "2 training sentences cannot be split with .*=0.75: set it to 0.5, or add sentences", (0.5,)),
        (
            10,
            (0.2, 42, 9),
            "tokenize.training_sentences=9 exceeds the 8 that validation leaves: set it to null",
            (0.2, 42, None),
        ),
    ],
)
def test_a_split_of_too_few_sentences_is_refused_and_its_remedy_helps(count, settings, fault, remedy):
    with pytest.raises(UserError, match=f"^{fault}"):
        corpus.split(np.zeros(count), *(*settings, 42)[:2], *settings[2:])
    assert sum(map(len, corpus.split(np.zeros(count), *(*remedy, 42)[:2]))) == count
