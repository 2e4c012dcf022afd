"""The tutorial's figures, and what may be compared with them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cola.data.sources import CORPORA, ENCODERS

TUTORIAL_ENCODER = "google-bert/bert-base-uncased"
TUTORIAL_MCC = 0.498  # on the test sentences

# The test MCCs of 26 public runs of the tutorial's recipe.
PUBLIC_RUNS = (
    0.498, 0.513, 0.514, 0.514, 0.519, 0.524, 0.524, 0.525, 0.529, 0.529, 0.535, 0.535, 0.54,
    0.54, 0.545, 0.545, 0.55, 0.55, 0.55, 0.56, 0.56, 0.56, 0.566, 0.571, 0.571, 0.571,
)  # fmt: skip


def title(source: Mapping[str, Any]) -> str:
    """'cola, google-bert/bert-base-uncased': the corpus and the encoder of a model's source.json."""
    return f"{source['corpus']['name']}, {source['encoder']['name']}"


def comparable(source: Mapping[str, Any]) -> bool:
    """Whether a test MCC may be held against the tutorial's: its corpus, its encoder, at the pinned revisions."""
    return not list(_differences(source))


def verdict(source: Mapping[str, Any]) -> str:
    """The figures that a test MCC may be held against, or why there are none: phrases, with a semicolon between."""
    if differences := "; ".join(_differences(source)):
        return f"not comparable: {differences}"
    return (
        f"the tutorial: {TUTORIAL_MCC}; {len(PUBLIC_RUNS)} public runs of its recipe: mean {np.mean(PUBLIC_RUNS):.3f}, "
        f"{min(PUBLIC_RUNS)} to {max(PUBLIC_RUNS)}; comparable: corpus and encoder are the tutorial's own"
    )


def _differences(source: Mapping[str, Any]) -> Iterator[str]:
    """What the tutorial has where this source.json has something else."""
    corpus, encoder = CORPORA["cola"], ENCODERS[TUTORIAL_ENCODER]
    if (source["corpus"]["name"], source["corpus"]["revision"]) != (corpus.name, corpus.revision):
        yield f"the tutorial's corpus is {corpus.name} {corpus.revision}"
    if source["encoder"]["name"] != encoder.name:
        yield f"the tutorial's encoder is {encoder.name}"
    elif source["encoder"]["revision"] != encoder.revision:
        yield f"the tutorial's encoder is at revision {str(encoder.revision)[:12]}"
