"""The results with which a test MCC is compared: metrics/reference/ has published ones and measured ones.

Each is a JSON file. Its numbers are what `dvc metrics show` prints: mcc (the mean) and, of several runs,
standard_deviation and count. What is in lists, as the runs are, DVC leaves out. Beside a measured one lies a folder of
its name: source.json, which names corpus and encoder, and the files of one of its runs.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from cola.core import params, paths
from cola.data import tutorial


class Reference(NamedTuple):
    """The test MCC of each of its runs. source: their corpus and encoder, as in a model's source.json."""

    name: str
    source: Mapping[str, Any]
    mccs: Sequence[float]


def read() -> list[Reference]:
    """The tutorial, the public runs of its recipe, then what was measured. What is no reference is a warning."""
    references = []
    for path in sorted(paths.REFERENCE.glob("[!.]*.json")):
        try:
            references.append(_read_reference(path))
        except Exception as error:  # whatever the user's files hold
            fault = error if isinstance(error, OSError) else repr(error)
            print(f"warning: {path} is no reference, and not compared with ({fault}): remove it", file=sys.stderr)
    return sorted(references, key=lambda reference: (not tutorial.comparable(reference.source), len(reference.mccs)))


def _read_reference(path: Path) -> Reference:
    """Raises any exception where the file, or its source.json, is wrong."""
    mccs = [float(run["mcc"]) for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]
    if not mccs or not all(map(math.isfinite, mccs)):
        raise ValueError(f"mcc of runs: {mccs}")
    published = {"tutorial": "the tutorial", "public_runs": f"{len(mccs)} public runs of its recipe"}
    if path.stem in published:
        return Reference(published[path.stem], tutorial.SOURCE, mccs)
    source = json.loads((path.with_suffix("") / "source.json").read_text(encoding="utf-8"))
    tutorial.same_corpus_and_encoder(source, source)  # has what is compared
    return Reference(f"{path.stem} here, {len(mccs)} seeds", source, mccs)


def comparable(source: Mapping[str, Any], references: Sequence[Reference]) -> list[Reference]:
    """Those whose MCCs compare with that of the model of this source.json."""
    return [reference for reference in references if tutorial.same_corpus_and_encoder(source, reference.source)]


def comparable_and_other_encoders(
    source: Mapping[str, Any], references: Sequence[Reference]
) -> tuple[list[Reference], list[Reference]]:
    """(those that compare, those of another encoder) of the same corpus: another corpus is another task."""
    compare = comparable(source, references)
    same_corpus = [
        reference
        for reference in references
        if tutorial.same_corpus_and_encoder({**reference.source, "corpus": source["corpus"]}, reference.source)
    ]
    return compare, [reference for reference in same_corpus if reference not in compare]


def compare(mccs: Sequence[float], source: Mapping[str, Any], references: Sequence[Reference]) -> str:
    """How the test MCCs of one run, or of several seeds of a recipe, compare with references: phrases, joined by "; ".

    `source` is the models' source.json. One MCC is compared with several by the prediction interval of the several, two
    means by Welch's t-test at 5%. Where the tutorial's result is of another corpus or encoder, the last phrase says so.
    """
    phrases = []
    for reference in comparable(source, references):
        mean = f"{np.mean(reference.mccs):.3f}"
        phrases.append(f"{reference.name}: {'mean ' if len(reference.mccs) > 1 else ''}{mean}")
        if len(mccs) > 1 and len(reference.mccs) > 1:
            difference = "a significant" if _means_differ(mccs, reference.mccs) else "no significant"
            phrases.append(f"{difference} difference from {np.mean(mccs):.3f} (Welch's t-test)")
        elif len(mccs) > 1 or len(reference.mccs) > 1:
            (mcc,), several = sorted((mccs, reference.mccs), key=len)
            low, high = prediction_interval(several)
            position = f"{mcc:.3f} is {'within' if low <= mcc <= high else 'outside'} the 95% prediction interval"
            phrases.append(f"{position} for one more seed, {low:.3f} to {high:.3f}")
    if differences := "; ".join(tutorial.differences(source)):
        phrases.append(f"not comparable with the tutorial: {differences}")
    return "; ".join(phrases)


def _means_differ(mccs: Sequence[float], others: Sequence[float]) -> bool:
    """Whether Welch's t-test tells the means of two samples apart, at 5%."""
    from scipy import stats  # takes 0.3 s, and most commands do without

    difference = stats.ttest_ind(mccs, others, equal_var=False).confidence_interval()  # also where neither varies
    return not difference.low <= 0 <= difference.high


def prediction_interval(mccs: Sequence[float]) -> tuple[float, float]:
    """Where one more run lies in 95 of 100 cases, if MCCs are normally distributed; from at least two."""
    quantile = stdtrit(len(mccs) - 1, 0.975)  # of Student's t: scipy.stats has it too, and takes 0.3 s to load
    margin = float(quantile * np.std(mccs, ddof=1) * (1 + 1 / len(mccs)) ** 0.5)
    mean = float(np.mean(mccs))
    return mean - margin, mean + margin


def describe_recipe(source: Mapping[str, Any], settings: params.Params) -> dict[str, Any]:
    """Plain data that tells one recipe from another: a model's source.json, and the settings without the seed.

    source.json names corpus and encoder, with the hashes of their files. The settings are flattened (params.flatten).
    """
    flat = params.flatten(settings)
    return {"source": source, "params": {key: value for key, value in flat.items() if key != "seed"}}
