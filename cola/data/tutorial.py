"""The tutorial's corpus and encoder; which results are comparable."""

from collections.abc import Iterator, Mapping
from typing import Any

# The fields of source.json that must match the tutorial's for scores to be comparable. A test compares them with the
# pinned sources of cola/fetch/.
SOURCE: Mapping[str, Any] = {
    "corpus": {"name": "cola", "revision": "1.1"},
    "encoder": {"name": "google-bert/bert-base-uncased", "revision": "86b5e0934494bd15c9632b12f734a8a67f723594"},
}

RANDOM_WEIGHTS = " with random weights"  # ends the name of an encoder whose weights were not used


def make_title(source: Mapping[str, Any]) -> str:
    """Return the corpus and the encoder of a model's source.json: 'cola, google-bert/bert-base-uncased'."""
    return f"{source['corpus']['name']}, {source['encoder']['name']}"


def matches_corpus_and_encoder(source: Mapping[str, Any], reference: Mapping[str, Any]) -> bool:
    """Return whether two models have the same corpus and encoder, so that their test MCCs are comparable."""
    return all(_identify(source[part]) == _identify(reference[part]) for part in SOURCE)


def _identify(origin: Mapping[str, Any]) -> Any:
    """Return an origin's identity: name and revision, or else its files' hashes and whether its weights were used."""
    if origin["revision"] is None and origin.get("files"):
        return origin["files"], origin["name"].endswith(RANDOM_WEIGHTS)
    return origin["name"], origin["revision"]


def is_comparable(source: Mapping[str, Any]) -> bool:
    """Return whether a test MCC is comparable with the tutorial's."""
    return matches_corpus_and_encoder(source, SOURCE)


def list_differences(source: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tutorial's corpus and encoder where this source.json differs from them, in words."""
    corpus, encoder = SOURCE["corpus"], SOURCE["encoder"]
    if source["corpus"]["name"] != corpus["name"] or source["corpus"]["revision"] != corpus["revision"]:
        yield f"its corpus is {corpus['name']} {corpus['revision']}"
    if source["encoder"]["name"] != encoder["name"]:
        yield f"its encoder is {encoder['name']}"
    elif source["encoder"]["revision"] != encoder["revision"]:
        yield f"its encoder is at revision {encoder['revision'][:12]}"
