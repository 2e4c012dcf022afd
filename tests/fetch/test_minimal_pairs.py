import hashlib

import pytest

from cola.fetch import minimal_pairs, tables
from cola.fetch.minimal_pairs import IN_DOMAIN, OTHER_WORDS, OUT_OF_DOMAIN, TRAIN_WORDS

TRAIN, DEV, TEST = "in_domain_train.tsv", "in_domain_dev.tsv", "out_of_domain_dev.tsv"
SIZES = {TRAIN: 6000, DEV: 500, TEST: 500}


@pytest.fixture(scope="module")
def files():
    return minimal_pairs.generate()


def words(sentences):
    return {word for row in sentences for word in row.sentence.lower().strip(".?").split()}


def test_every_file_has_its_size_and_seven_acceptable_sentences_in_ten(files):
    assert {name: len(rows) for name, rows in files.items()} == SIZES
    for rows in files.values():
        assert 10 * sum(row.label for row in rows) == 7 * len(rows)


def test_no_sentence_occurs_twice(files):
    sentences = [row.sentence for rows in files.values() for row in rows]
    assert len(sentences) == 7000
    assert len(set(sentences)) == 7000


def test_the_bytes_are_pinned(files):
    written = "".join(map(minimal_pairs.tsv, files.values())).encode()
    assert hashlib.sha256(written).hexdigest() == "32a071b6eceba4cbb291634ff0cf30267a6e7aab1319b89dc598b74f1cc95e1a"


def test_the_files_read_as_colas_do(files, tmp_path):
    for name, rows in files.items():
        (tmp_path / name).write_text(minimal_pairs.tsv(rows))
        expected = [(row.source, ("unacceptable", "acceptable")[row.label], row.sentence) for row in rows]
        assert list(tables.read_cola(tmp_path / name)) == expected
    assert len(files) == 3
    assert minimal_pairs.tsv([minimal_pairs.Sentence("case", 0, "Him left.")]) == "case\t0\t*\tHim left.\n"


def test_the_test_file_has_constructions_that_training_never_shows(files):
    assert {row.source for row in files[TRAIN]} == {row.source for row in files[DEV]} == set(IN_DOMAIN)
    assert {row.source for row in files[TEST]} == set(OUT_OF_DOMAIN)
    assert not set(IN_DOMAIN) & set(OUT_OF_DOMAIN)


def test_the_test_file_has_words_that_training_never_shows(files):
    trained = words(files[TRAIN])
    kinds = [kind for kind in OTHER_WORDS if kind not in ("context", "prepositional")]
    swept = [word.lower() for kind in kinds for word in OTHER_WORDS[kind]]
    assert len(swept) >= 100
    assert [word for word in swept if word in trained or word + "s" in trained] == []
    own = {word.lower() for kind in kinds for word in TRAIN_WORDS[kind]}
    assert len(words(files[TEST]) & own) == 0
