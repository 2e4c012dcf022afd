"""The tutorial's corpus and encoder, and what may be compared with its result."""

from collections.abc import Iterator, Mapping
from typing import Any

from cola.data.sources import CORPORA, ENCODERS

_CORPUS, _ENCODER = CORPORA["cola"], ENCODERS["google-bert/bert-base-uncased"]
# As far as comparing goes, the source.json of a model that was trained as the tutorial's was.
SOURCE: Mapping[str, Any] = {
    "corpus": {"name": _CORPUS.name, "revision": _CORPUS.revision},
    "encoder": {"name": _ENCODER.name, "revision": _ENCODER.revision},
}


def title(source: Mapping[str, Any]) -> str:
    """'cola, google-bert/bert-base-uncased': the corpus and the encoder of a model's source.json."""
    return f"{source['corpus']['name']}, {source['encoder']['name']}"


def same(source: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two models' test MCCs compare: corpus and encoder are the same, at the same revisions."""
    return all(source[part][key] == other[part][key] for part in SOURCE for key in SOURCE[part])


def comparable(source: Mapping[str, Any]) -> bool:
    """Whether a test MCC may be held against the tutorial's."""
    return same(source, SOURCE)


def differences(source: Mapping[str, Any]) -> Iterator[str]:
    """What the tutorial has where this source.json has something else."""
    if source["corpus"]["name"] != _CORPUS.name or source["corpus"]["revision"] != _CORPUS.revision:
        yield f"its corpus is {_CORPUS.name} {_CORPUS.revision}"
    if source["encoder"]["name"] != _ENCODER.name:
        yield f"its encoder is {_ENCODER.name}"
    elif source["encoder"]["revision"] != _ENCODER.revision:
        yield f"its encoder is at revision {str(_ENCODER.revision)[:12]}"
