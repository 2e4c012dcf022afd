"""The results that a test MCC is held against: metrics/reference/ has published ones and measured ones.

Each is a JSON file. Its numbers are what `dvc metrics show` prints: mcc (the mean) and, of several runs,
standard_deviation and count. What is in lists, as the runs are, DVC leaves out. Beside a measured one lies a folder of
its name: source.json, which names corpus and encoder, and the files of one of its runs.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from cola.core import files, paths
from cola.core.errors import UserError
from cola.data import tutorial


class Reference(NamedTuple):
    """The test MCC of each of its runs. source: their corpus and encoder, as in a model's source.json."""

    name: str
    source: Mapping[str, Any]
    mccs: Sequence[float]


def read() -> list[Reference]:
    """The tutorial, the public runs of its recipe, then what was measured. Raises UserError where a file is amiss."""
    found = [_reference(path.stem) for path in sorted(paths.REFERENCE.glob("*.json"))]
    return sorted(found, key=lambda reference: (not tutorial.comparable(reference.source), len(reference.mccs)))


def _reference(stem: str) -> Reference:
    path = paths.REFERENCE / f"{stem}.json"
    try:
        mccs = [float(run["mcc"]) for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no reference ({error!r}): `git checkout {path}` takes the committed one back"
        ) from None
    published = {"tutorial": "the tutorial", "public_runs": f"{len(mccs)} public runs of its recipe"}
    if stem in published:
        return Reference(published[stem], tutorial.SOURCE, mccs)
    return Reference(f"{stem} here, {len(mccs)} seeds", files.read_json(paths.REFERENCE / stem / "source.json"), mccs)


def comparable(source: Mapping[str, Any], references: Sequence[Reference]) -> list[Reference]:
    """Those whose MCCs compare with that of the model of this source.json."""
    return [reference for reference in references if tutorial.same(source, reference.source)]


def of_the_corpus(
    source: Mapping[str, Any], references: Sequence[Reference]
) -> tuple[list[Reference], list[Reference]]:
    """(those that compare, those of another encoder) of the same corpus: another corpus is another task."""
    compare = comparable(source, references)
    same_corpus = [
        reference
        for reference in references
        if tutorial.same({**reference.source, "corpus": source["corpus"]}, reference.source)
    ]
    return compare, [reference for reference in same_corpus if reference not in compare]


def verdict(source: Mapping[str, Any], mcc: float, references: Sequence[Reference]) -> str:
    """What a test MCC may be held against, and what it may not: phrases, with a semicolon between."""
    phrases = [phrase for reference in comparable(source, references) for phrase in _comparison(reference, mcc)]
    if differences := "; ".join(tutorial.differences(source)):
        phrases.append(f"not comparable with the tutorial: {differences}")
    return "; ".join(phrases)


def _comparison(reference: Reference, mcc: float) -> list[str]:
    if len(reference.mccs) == 1:
        return [f"{reference.name}: {reference.mccs[0]:.3f}"]
    low, high = prediction_interval(reference.mccs)
    lies = "lies within" if low <= mcc <= high else "does not lie within"
    mean = f"{reference.name}: mean {np.mean(reference.mccs):.3f}"
    return [mean, f"this run {lies} what one more may give, {low:.3f} to {high:.3f}"]


def prediction_interval(mccs: Sequence[float]) -> tuple[float, float]:
    """Where one more run lies in 95 of 100 cases, if MCCs are normally distributed; from at least two."""
    quantile = stdtrit(len(mccs) - 1, 0.975)  # of Student's t: scipy.stats has it too, and takes 0.3 s to load
    margin = float(quantile * np.std(mccs, ddof=1) * (1 + 1 / len(mccs)) ** 0.5)
    mean = float(np.mean(mccs))
    return mean - margin, mean + margin
