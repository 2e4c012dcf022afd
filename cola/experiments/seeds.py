"""Many seeds of one recipe: `python -m cola.experiments.seeds 10` trains with seeds 1 to 10 and sums them up.

Every seed is a DVC experiment, seed-1 and so on, of params.yaml as it stands; what ran before comes from DVC's cache.
Writes metrics/seeds.json and seeds.png, and gathers the runs under one parent in MLflow.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from cola.core import files, params, paths
from cola.core.errors import UserError, run
from cola.data import tutorial
from cola.experiments import jobs
from cola.report import console, figures, mlflow_runs, revision
from cola.report.recipe import recipe


def summary(mccs: Mapping[int, float], source: Mapping[str, Any], settings: params.Params) -> dict[str, Any]:
    """The statistics of the test MCCs of at least two seeds, by seed, of one recipe: plain data, for seeds.json.

    `source` is the models' source.json. confidence_interval: where the mean of many seeds lies, with 95% confidence.
    prediction_interval: where one more seed would lie, in 95 of 100 cases. Both take the MCCs as normally distributed.
    """
    values = np.array(list(mccs.values()))
    count, mean, deviation = len(values), float(values.mean()), float(values.std(ddof=1))
    margin = float(stats.t.ppf(0.975, count - 1)) * deviation
    one_more, of_the_mean = margin * (1 + 1 / count) ** 0.5, margin / count**0.5
    prediction_interval = mean - one_more, mean + one_more
    comparable = tutorial.comparable(source)
    return {
        "mcc": {str(seed): value for seed, value in mccs.items()},
        "mean": mean,
        "standard_deviation": deviation,
        "confidence_interval": [mean - of_the_mean, mean + of_the_mean],
        "prediction_interval": list(prediction_interval),
        "comparable": comparable,
        "verdict": _comparison(values, prediction_interval) if comparable else tutorial.verdict(source),
        "recipe": recipe(source, settings),
    }


def _comparison(values: np.ndarray, prediction_interval: tuple[float, float]) -> str:
    """Two sentences: whether the tutorial's MCC is one that these may have, and whether the means differ (Welch)."""
    low, high = prediction_interval
    public = np.array(tutorial.PUBLIC_RUNS)
    difference = stats.ttest_ind(values, public, equal_var=False).confidence_interval()
    lies = "lies" if low <= tutorial.TUTORIAL_MCC <= high else "does not lie"
    agrees = "agrees with" if difference.low <= 0 <= difference.high else "differs from"
    return (
        f"The tutorial's {tutorial.TUTORIAL_MCC} {lies} within what one run may give, {low:.3f} to {high:.3f}. "
        f"The mean {agrees} that of the {len(public)} public runs: {values.mean():.3f} and {public.mean():.3f}."
    )


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 2:
        raise UserError("how many seeds? at least 2: make seeds N=10")
    names = {seed: f"seed-{seed}" for seed in range(1, int(sys.argv[1]) + 1)}
    settings = params.load(paths.PARAMS)  # now: the trainings take hours, in which it may be edited
    if "DASK_SCHEDULER_ADDRESS" in os.environ:
        from cola.experiments import cluster  # needs Dask, an optional extra, which takes a second to load

        cluster.train({name: [f"seed={seed}"] for seed, name in names.items()})
    else:
        train(names)
    source = json.loads(_read(paths.FINETUNED / "source.json", names[1]))
    mccs = {seed: json.loads(_read(paths.TEST_METRICS, name))["mcc"] for seed, name in names.items()}
    checksums = [_read(paths.FINETUNED / files.CHECKSUMS, name).splitlines() for name in names.values()]
    models = [line.split()[0] for lines in checksums for line in lines if line.endswith("  model.safetensors")]
    seeds = summary(mccs, source, settings)
    files.write_json(paths.SEEDS, seeds)
    with files.atomic_file(paths.SEEDS_PICTURE) as partial_file:
        figures.seeds(seeds).savefig(partial_file, format="png", dpi=100)
    console.print_seeds(seeds, source)
    mlflow_runs.record(partial(mlflow_runs.seeds, seeds, models))


def train(names: Mapping[int, str]) -> None:
    """Have DVC run an experiment for every seed; the output is DVC's. Raises UserError where one fails."""
    listed = subprocess.run(["dvc", "exp", "list", "--name-only"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    if earlier := sorted(set(listed.split()) & set(names.values())):
        _dvc("exp", "remove", "--quiet", *earlier)
    for seed, name in names.items():
        _dvc("exp", "run", "--queue", "--name", name, "--set-param", f"seed={seed}")
    jobs.run_queued()


def _read(path: Path, experiment: str) -> str:
    """A file of an experiment. Raises UserError where the experiment has failed."""
    return revision.read(path, experiment, f"`dvc queue logs {experiment}` says why")


def _dvc(*arguments: str) -> None:
    if subprocess.run(["dvc", *arguments], check=False).returncode:  # noqa: S607
        raise UserError(f"dvc {arguments[0]} {arguments[1]} failed: see above")


if __name__ == "__main__":
    run(main)
