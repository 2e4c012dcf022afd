import pytest
from results import TUTORIAL

from cola.data import tutorial

CORPUS, ENCODER = TUTORIAL["corpus"], TUTORIAL["encoder"]
MINE = {"name": "mine", "revision": None, "files": {"model.safetensors": "0a"}}


def test_the_tutorials_corpus_and_encoder_are_comparable():
    assert tutorial.is_comparable(TUTORIAL)
    assert list(tutorial.list_differences(TUTORIAL)) == []
    assert tutorial.make_title(TUTORIAL) == "cola, google-bert/bert-base-uncased"


@pytest.mark.parametrize(
    ("corpus", "encoder", "differences"),
    [
        (CORPUS | {"revision": None}, ENCODER, ["its corpus is cola 1.1"]),  # a user's corpus of that name
        (
            CORPUS,
            ENCODER | {"name": "google-bert/bert-large-uncased"},
            ["its encoder is google-bert/bert-base-uncased"],
        ),
        (CORPUS, ENCODER | {"revision": "0" * 40}, ["its encoder is at revision 86b5e0934494"]),
        (CORPUS, ENCODER | {"revision": None}, ["its encoder is at revision 86b5e0934494"]),
        (MINE, MINE, ["its corpus is cola 1.1", "its encoder is google-bert/bert-base-uncased"]),
    ],
)
def test_a_result_with_another_corpus_or_encoder_is_not_comparable(corpus, encoder, differences):
    source = {"corpus": corpus, "encoder": encoder}
    assert not tutorial.is_comparable(source)
    assert list(tutorial.list_differences(source)) == differences


@pytest.mark.parametrize(
    ("encoder", "is_same"),
    [
        (MINE | {"license": "changed"}, True),
        (MINE | {"name": "a copy"}, True),
        (MINE | {"name": f"mine{tutorial.RANDOM_WEIGHTS}"}, False),
        (MINE | {"files": {"model.safetensors": "0b"}}, False),
        (MINE | {"files": {}}, False),
        (MINE | {"revision": "1"}, False),
    ],
)
def test_an_encoder_without_a_revision_is_identified_by_its_files(encoder, is_same):
    source, reference = ({"corpus": CORPUS, "encoder": part} for part in (MINE, encoder))
    assert tutorial.matches_corpus_and_encoder(source, reference) == is_same
    assert not tutorial.matches_corpus_and_encoder(source, reference | {"corpus": CORPUS | {"revision": "2"}})
