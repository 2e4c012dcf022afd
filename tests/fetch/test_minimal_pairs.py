"""The generated corpus; test_download.py pins its bytes."""

import pytest

from cola.fetch import minimal_pairs, tables
from cola.fetch.minimal_pairs import IN_DOMAIN, OUT_OF_DOMAIN, TEST_WORDS, TRAIN_WORDS

TRAIN, DEV, TEST = "in_domain_train.tsv", "in_domain_dev.tsv", "out_of_domain_dev.tsv"


@pytest.fixture(scope="module")
def files():
    return minimal_pairs.generate()


def test_the_files_read_as_colas_do_and_no_sentence_occurs_twice(files, tmp_path):
    for name, rows in files.items():
        (tmp_path / name).write_text(minimal_pairs.tsv(rows))
        expected = [(row.source, ("unacceptable", "acceptable")[row.label], row.sentence) for row in rows]
        assert [row for _, row in tables.read_cola(tmp_path / name)] == expected
        assert 10 * sum(row.label for row in rows) == 7 * len(rows)
    assert {name: len(rows) for name, rows in files.items()} == {TRAIN: 6000, DEV: 500, TEST: 500}
    assert len({row.sentence for rows in files.values() for row in rows}) == 7000


def test_the_test_file_has_constructions_and_words_that_training_never_shows(files):
    assert {row.source for row in files[TRAIN]} == {row.source for row in files[DEV]} == set(IN_DOMAIN)
    assert {row.source for row in files[TEST]} == set(OUT_OF_DOMAIN)
    trained, tested = (
        {word for row in files[name] for word in row.sentence.lower().strip(".?").split()} for name in (TRAIN, TEST)
    )
    kinds = [kind for kind in TEST_WORDS if kind not in ("context", "prepositional")]
    swept = [word.lower() for kind in kinds for word in TEST_WORDS[kind]]
    assert len(swept) >= 100
    assert [word for word in swept if word in trained or word + "s" in trained] == []
    assert not tested & {word.lower() for kind in kinds for word in TRAIN_WORDS[kind]}
