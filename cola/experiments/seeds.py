"""Many seeds of one recipe: `python -m cola.experiments.seeds 10` trains with seeds 1 to 10 and sums them up.

Every seed is a DVC experiment, seed-1 and so on, of params.yaml as it stands; what ran before comes from DVC's cache.
Writes metrics/seeds.json and seeds.png, and gathers the runs under one parent in MLflow.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from cola.core import files, params, paths
from cola.core.errors import UserError, run
from cola.data import tutorial
from cola.experiments import jobs
from cola.report import console, figures, mlflow_logger, references, revision
from cola.report.recipe import recipe
from cola.report.references import Reference


def summary(
    mccs: Mapping[int, float], source: Mapping[str, Any], settings: params.Params, held_against: Sequence[Reference]
) -> dict[str, Any]:
    """The statistics of the test MCCs of at least two seeds, by seed, of one recipe: plain data, for seeds.json.

    `source` is the models' source.json. confidence_interval: where the mean of many seeds lies, with 95% confidence.
    prediction_interval: where one more seed would lie, in 95 of 100 cases. Both take the MCCs as normally distributed.
    """
    values = list(mccs.values())
    count, mean, deviation = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    margin = float(stats.t.ppf(0.975, count - 1)) * deviation / count**0.5
    comparable = references.comparable(source, held_against)
    return {
        "mcc": {str(seed): value for seed, value in mccs.items()},
        "mean": mean,
        "standard_deviation": deviation,
        "confidence_interval": [mean - margin, mean + margin],
        "prediction_interval": list(references.prediction_interval(values)),
        "references": {reference.name: list(reference.mccs) for reference in comparable},
        "verdict": verdict(values, source, comparable),
        "recipe": recipe(source, settings),
    }


def verdict(mccs: Sequence[float], source: Mapping[str, Any], comparable: Sequence[Reference]) -> str:
    """A sentence for each reference that the seeds compare with, and why the tutorial is none of them, if it is not.

    Of one run: whether its MCC is one that a further seed may have. Of several: whether the means differ (Welch).
    """
    low, high = references.prediction_interval(mccs)
    sentences = []
    for name, _, others in comparable:
        if len(others) == 1:
            lies = "lies within" if low <= others[0] <= high else "does not lie within"
            sentences.append(f"{name}: {others[0]:.3f} {lies} what one more seed may give, {low:.3f} to {high:.3f}.")
        else:
            difference = stats.ttest_ind(mccs, others, equal_var=False).confidence_interval()
            agrees = "agrees with" if difference.low <= 0 <= difference.high else "differs from"
            sentences.append(f"{name}: their mean of {np.mean(others):.3f} {agrees} {np.mean(mccs):.3f}.")
    if differences := "; ".join(tutorial.differences(source)):
        sentences.append(f"Not comparable with the tutorial: {differences}.")
    return " ".join(sentences)


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 2:
        raise UserError("how many seeds? at least 2: make seeds N=10")
    names = {seed: f"seed-{seed}" for seed in range(1, int(sys.argv[1]) + 1)}
    settings = params.load(paths.PARAMS)  # now: the trainings take hours, in which it may be edited
    train({name: [f"seed={seed}"] for seed, name in names.items()})
    source = json.loads(read(paths.FINETUNED / "source.json", names[1]))
    mccs = {seed: json.loads(read(paths.TEST_METRICS, name))["mcc"] for seed, name in names.items()}
    seeds = summary(mccs, source, settings, references.read())
    files.write_json(paths.SEEDS, seeds)
    figures.save(figures.seeds(seeds), paths.SEEDS_PICTURE)
    console.print_seeds(seeds, source)
    statistics = {f"test_mcc_{name}": {0: seeds[name]} for name in ("mean", "standard_deviation")}
    models = [model_digest(name) for name in names.values()]
    mlflow_logger.record("parent", f"{len(mccs)} seeds", statistics, [paths.SEEDS, paths.SEEDS_PICTURE], models)


def train(experiments: Mapping[str, Sequence[str]], last_stages: Sequence[str] = ()) -> None:
    """Run experiments, names with settings as "seed=1", on the cluster if there is one, else here; the output is DVC's.

    What `last_stages` do not need is not run; without them all of the pipeline is. Earlier experiments of these names
    go. Raises UserError where one fails.
    """
    if "DASK_SCHEDULER_ADDRESS" in os.environ:
        from cola.experiments import cluster  # needs Dask, an optional extra, which takes a second to load

        cluster.train(experiments, last_stages)
        return
    from dvc.exceptions import DvcException  # these take a second: only here
    from dvc.repo import Repo
    from hydra.errors import HydraException

    listed = subprocess.run(["dvc", "exp", "list", "--name-only"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    try:
        with Repo() as repo:  # a `dvc exp run --queue` for each would take a second each
            repo.experiments.remove(sorted(set(listed.split()) & experiments.keys()))
            for name, settings in experiments.items():
                repo.experiments.run(queue=True, name=name, params=list(settings), targets=list(last_stages))
    except (DvcException, HydraException) as error:
        raise UserError(f"not queued: {' '.join(str(error).split())}") from None
    jobs.run_queued()


def read(path: Path, experiment: str) -> str:
    """A file of an experiment. Raises UserError where the experiment has failed."""
    return revision.read(path, experiment, _remedy(experiment))


def read_bytes(path: Path, experiment: str) -> bytes:
    """As `read`, of any file."""
    return revision.read_bytes(path, experiment, _remedy(experiment))


def model_digest(experiment: str) -> str:
    """The sha256 of the model that an experiment has trained."""
    lines = read(paths.FINETUNED / files.CHECKSUMS, experiment).splitlines()
    return next(line.split()[0] for line in lines if line.endswith("  model.safetensors"))


def _remedy(experiment: str) -> str:
    return f"`dvc queue logs {experiment}` says why"


if __name__ == "__main__":
    run(main)
