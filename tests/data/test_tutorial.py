"""What is compared with the tutorial, and why the rest is not."""

import numpy as np
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
    assert tutorial.verdict(same) == (
        "the tutorial: 0.498; 26 public runs of its recipe: mean 0.540, 0.498 to 0.571; "
        "comparable: corpus and encoder are the tutorial's own"
    )


@pytest.mark.parametrize(
    ("corpus", "encoder", "reason"),
    [
        (("minimal_pairs", None), ENCODER, "the tutorial's corpus is cola 1.1"),
        (("cola", None), ENCODER, "the tutorial's corpus is cola 1.1"),  # the user's own, of that name
        (CORPUS, ("google-bert/bert-large-uncased", PINNED), "the tutorial's encoder is google-bert/bert-base-uncased"),
        (CORPUS, (ENCODER[0], "0" * 40), "the tutorial's encoder is at revision 86b5e0934494"),
        (CORPUS, (ENCODER[0], None), "the tutorial's encoder is at revision 86b5e0934494"),
        (
            ("minimal_pairs", None),
            ("mine", None),
            "the tutorial's corpus is cola 1.1; the tutorial's encoder is google-bert/bert-base-uncased",
        ),
    ],
)
def test_any_other_result_is_not_comparable_and_the_reason_is_named(corpus, encoder, reason):
    other = source(corpus, encoder)
    assert not tutorial.comparable(other)
    assert tutorial.verdict(other) == f"not comparable: {reason}"


def test_the_public_runs_are_those_of_the_readme():
    assert len(tutorial.PUBLIC_RUNS) == 26
    assert np.mean(tutorial.PUBLIC_RUNS) == pytest.approx(0.540, abs=5e-4)
    assert np.std(tutorial.PUBLIC_RUNS, ddof=1) == pytest.approx(0.020, abs=5e-4)
