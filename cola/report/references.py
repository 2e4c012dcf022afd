"""The published and measured results in metrics/reference/, and how a test MCC compares with them.

A reference is a JSON file: its runs and, for `dvc metrics show`, mcc (the mean), standard_deviation and count. A
measured one also has a folder of its name: source.json, which names corpus and encoder, and the files of a run.
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
    """The test MCCs of its runs. `source` names their corpus and encoder, as a model's source.json does."""

    name: str
    source: Mapping[str, Any]
    mccs: Sequence[float]


def read() -> list[Reference]:
    """Return the tutorial, the public runs of its recipe, then measured references. A wrong file is a warning."""
    references = []
    for path in sorted(paths.REFERENCE.glob("[!.]*.json")):
        try:
            references.append(_read_reference(path))
        except Exception as error:  # a user's file may hold anything
            fault = error if isinstance(error, OSError) else repr(error)
            print(f"warning: {path} is not a reference ({fault}): fix or remove it", file=sys.stderr)
    return sorted(references, key=lambda reference: (not tutorial.is_comparable(reference.source), len(reference.mccs)))


def _read_reference(path: Path) -> Reference:
    """Raises any exception if the file or its source.json is wrong."""
    mccs = [float(run["mcc"]) for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]
    if not mccs or not all(map(math.isfinite, mccs)):
        raise ValueError(f"mcc of runs: {mccs}")
    published = {"tutorial": "the tutorial", "public_runs": f"{len(mccs)} public runs of its recipe"}
    if path.stem in published:
        return Reference(published[path.stem], tutorial.SOURCE, mccs)
    source = json.loads((path.with_suffix("") / "source.json").read_text(encoding="utf-8"))
    tutorial.matches_corpus_and_encoder(source, source)  # raises if a field that is compared is missing
    return Reference(f"{path.stem} here, {len(mccs)} seeds", source, mccs)


def select_comparable(source: Mapping[str, Any], references: Sequence[Reference]) -> list[Reference]:
    """Return the references with the corpus and the encoder of this source.json."""
    return [reference for reference in references if tutorial.matches_corpus_and_encoder(source, reference.source)]


def split_by_encoder(
    source: Mapping[str, Any], references: Sequence[Reference]
) -> tuple[list[Reference], list[Reference]]:
    """Return the references with the corpus of this source.json: (those with its encoder, those with another)."""
    same_corpus = [
        reference
        for reference in references
        if tutorial.matches_corpus_and_encoder({**reference.source, "corpus": source["corpus"]}, reference.source)
    ]
    comparable = select_comparable(source, same_corpus)
    return comparable, [reference for reference in same_corpus if reference not in comparable]


def compare(mccs: Sequence[float], source: Mapping[str, Any], references: Sequence[Reference]) -> str:
    """Compare the test MCCs of a run, or of several seeds of a recipe, with references, in phrases joined by "; ".

    `source` is the models' source.json. A single MCC is compared with several by their prediction interval, and two
    means by Welch's t-test at 5%. The last phrase names the corpus or encoder by which this is not the tutorial.
    """
    phrases = []
    for reference in select_comparable(source, references):
        mean = f"{np.mean(reference.mccs):.3f}"
        phrases.append(f"{reference.name}: {'mean ' if len(reference.mccs) > 1 else ''}{mean}")
        if len(mccs) > 1 and len(reference.mccs) > 1:
            from scipy import stats  # takes 0.3 s, and most commands do without

            p = stats.ttest_ind(mccs, reference.mccs, equal_var=False).pvalue
            difference = "a significant" if p < 0.05 else "no significant"
            phrases.append(f"{difference} difference from {np.mean(mccs):.3f} (Welch's t-test)")
        elif len(mccs) > 1 or len(reference.mccs) > 1:
            (mcc,), several = sorted((mccs, reference.mccs), key=len)
            low, high = compute_prediction_interval(several)
            position = f"{mcc:.3f} is {'within' if low <= mcc <= high else 'outside'} the 95% prediction interval"
            phrases.append(f"{position} for one more seed, {low:.3f} to {high:.3f}")
    if differences := "; ".join(tutorial.list_differences(source)):
        phrases.append(f"not comparable with the tutorial: {differences}")
    return "; ".join(phrases)


def compute_prediction_interval(mccs: Sequence[float]) -> tuple[float, float]:
    """Return the interval in which the next run's MCC lies in 95 of 100 cases, from at least two MCCs."""
    quantile = stdtrit(len(mccs) - 1, 0.975)  # of Student's t; scipy.stats, which has it too, takes 0.3 s to load
    margin = float(quantile * np.std(mccs, ddof=1) * (1 + 1 / len(mccs)) ** 0.5)
    mean = float(np.mean(mccs))
    return mean - margin, mean + margin


def describe_recipe(source: Mapping[str, Any], settings: params.Params) -> dict[str, Any]:
    """Return a recipe as plain data: a model's source.json, and the settings, flattened, without the seed."""
    flat = params.flatten(settings)
    return {"source": source, "params": {key: value for key, value in flat.items() if key != "seed"}}
