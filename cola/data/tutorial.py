"""The tutorial's figures, and what may be compared with them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cola.data.sources import CORPORA, ENCODERS

TUTORIAL_ENCODER = "google-bert/bert-base-uncased"


# Test MCC of the tutorial, and of 26 public runs of its recipe.
TUTORIAL_MCC = 0.498


PUBLIC_RUNS = (
    0.498, 0.513, 0.514, 0.514, 0.519, 0.524, 0.524, 0.525, 0.529, 0.529, 0.535, 0.535, 0.54,
    0.54, 0.545, 0.545, 0.55, 0.55, 0.55, 0.56, 0.56, 0.56, 0.566, 0.571, 0.571, 0.571,
)  # fmt: skip


def title(source: Mapping[str, Any]) -> str:
    """'cola, google-bert/bert-base-uncased': the corpus and the encoder of a model's source.json."""
    return f"{source['corpus']['name']}, {source['encoder']['name']}"


def comparable(source: Mapping[str, Any]) -> bool:
    """Whether a test MCC may be held against the tutorial's: its corpus, its encoder, at the pinned revision."""
    encoder = source["encoder"]
    return (
        (source["corpus"]["name"], source["corpus"]["revision"]) == ("cola", CORPORA["cola"].revision)
        and encoder["name"] == TUTORIAL_ENCODER
        and encoder["revision"] == ENCODERS[TUTORIAL_ENCODER].revision
    )


def verdict(source: Mapping[str, Any]) -> str:
    """What a test MCC may be held against."""
    others = (
        f"the tutorial: {TUTORIAL_MCC}; {len(PUBLIC_RUNS)} public runs of its recipe: mean {np.mean(PUBLIC_RUNS):.3f}, "
        f"{min(PUBLIC_RUNS)} to {max(PUBLIC_RUNS)}"
    )
    if comparable(source):
        return f"{others}; comparable: corpus and encoder are the tutorial's own"
    revision = ENCODERS[TUTORIAL_ENCODER].revision
    return f"{others}; not comparable: the tutorial's are cola and {TUTORIAL_ENCODER} at revision {revision}"
