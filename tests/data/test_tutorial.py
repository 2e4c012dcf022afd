"""What is compared with the tutorial, and why the rest is not."""

import pytest

from cola.data import tutorial

PINNED = "86b5e0934494bd15c9632b12f734a8a67f723594"
CORPUS, ENCODER = ("cola", "1.1"), ("google-bert/bert-base-uncased", PINNED)


def source(corpus, encoder):
    """A source.json, as far as comparing goes: name and revision of the corpus and of the encoder."""
    return {
        "corpus": {"name": corpus[0], "revision": corpus[1]},
        "encoder": {"name": encoder[0], "revision": encoder[1]},
    }


def test_a_title_names_corpus_and_encoder():
    assert tutorial.title(source(CORPUS, ENCODER)) == "cola, google-bert/bert-base-uncased"


def test_the_tutorials_corpus_and_encoder_are_comparable():
    same = source(CORPUS, ENCODER)
    assert tutorial.comparable(same)
    assert list(tutorial.differences(same)) == []


@pytest.mark.parametrize(
    ("corpus", "encoder", "reason"),
    [
        (("minimal_pairs", None), ENCODER, "its corpus is cola 1.1"),
        (("cola", None), ENCODER, "its corpus is cola 1.1"),  # the user's own, of that name
        (CORPUS, ("google-bert/bert-large-uncased", PINNED), "its encoder is google-bert/bert-base-uncased"),
        (CORPUS, (ENCODER[0], "0" * 40), "its encoder is at revision 86b5e0934494"),
        (CORPUS, (ENCODER[0], None), "its encoder is at revision 86b5e0934494"),
        (
            ("minimal_pairs", None),
            ("mine", None),
            "its corpus is cola 1.1; its encoder is google-bert/bert-base-uncased",
        ),
    ],
)
def test_any_other_result_is_not_comparable_and_the_reason_is_named(corpus, encoder, reason):
    other = source(corpus, encoder)
    assert not tutorial.comparable(other)
    assert "; ".join(tutorial.differences(other)) == reason


MINE = {"name": "mine", "revision": None, "files": {"model.safetensors": "0a"}}


@pytest.mark.parametrize(
    ("encoder", "is_same"),
    [
        (MINE | {"license": "changed"}, True),
        (MINE | {"name": "a copy"}, True),
        (MINE | {"files": {"model.safetensors": "0b"}}, False),
        (MINE | {"files": {}}, False),
        (MINE | {"revision": "1"}, False),
    ],
)
def test_results_compare_where_the_encoder_has_the_same_revision_or_the_same_bytes(encoder, is_same):
    mine = source(CORPUS, ENCODER) | {"encoder": MINE}
    assert tutorial.same(mine, source(CORPUS, ENCODER) | {"encoder": encoder}) == is_same
    assert not tutorial.same(mine, source(("cola", "2"), ENCODER) | {"encoder": encoder})
