"""Many seeds of one recipe: `python -m cola.experiments.seeds 10` trains with seeds 1 to 10 and sums them up.

Each is an experiment, seed-1 and so on, of params.yaml as it stands; what ran before comes from DVC's cache. Writes
metrics/seeds.json and seeds.png, and gathers the runs under one parent in MLflow.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from cola.core import files, paths
from cola.core.errors import UserError, run
from cola.data import tutorial
from cola.report import console, figures, mlflow_runs


def summary(mccs: Mapping[int, float], comparable: bool) -> dict[str, Any]:
    """What the seeds' test MCCs, by seed, say together: at least two of them.

    interval: where the mean of many seeds lies, with 95% confidence. one_run: where one more seed would lie, in 95 of
    100 cases. Both take the MCCs as normally distributed.
    """
    values, public = np.array(list(mccs.values())), np.array(tutorial.PUBLIC_RUNS)
    count, mean, deviation = len(values), float(values.mean()), float(values.std(ddof=1))
    reach = float(stats.t.ppf(0.975, count - 1)) * deviation
    one_run = [mean - reach * (1 + 1 / count) ** 0.5, mean + reach * (1 + 1 / count) ** 0.5]
    apart = stats.ttest_ind(values, public, equal_var=False).confidence_interval()
    within = "lies" if one_run[0] <= tutorial.TUTORIAL_MCC <= one_run[1] else "does not lie"
    agree = "agrees with" if apart.low <= 0 <= apart.high else "differs from"
    return {
        "mcc": {str(seed): value for seed, value in mccs.items()},
        "mean": mean,
        "standard_deviation": deviation,
        "interval": [mean - reach / count**0.5, mean + reach / count**0.5],
        "one_run": one_run,
        "comparable": comparable,
        "verdict": f"The tutorial's {tutorial.TUTORIAL_MCC} {within} within what one run may give, {one_run[0]:.3f} to "
        f"{one_run[1]:.3f}. The mean {agree} that of the {len(public)} public runs: {mean:.3f} and {public.mean():.3f}."
        if comparable
        else "Not comparable with the tutorial's 0.498 and the public runs: corpus or encoder is another.",
    }


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 2:
        raise UserError("how many seeds? at least 2: make seeds N=10")
    names = {seed: f"seed-{seed}" for seed in range(1, int(sys.argv[1]) + 1)}
    if "DASK_SCHEDULER_ADDRESS" in os.environ:
        from cola.experiments import cluster  # needs Dask, an optional extra, which takes a second to load

        cluster.train({name: [f"seed={seed}"] for seed, name in names.items()})
    else:
        train(names)
    sources = [json.loads(read(paths.FINETUNED / "source.json", name)) for name in names.values()]
    found = summary(
        {seed: json.loads(read(paths.TEST_METRICS, name))["mcc"] for seed, name in names.items()},
        tutorial.comparable(sources[0]),
    )
    sums = [read(paths.FINETUNED / files.CHECKSUMS, name).splitlines() for name in names.values()]
    models = [line.split()[0] for lines in sums for line in lines if line.endswith("  model.safetensors")]
    files.write_json(paths.SEEDS, found)
    with files.atomic_file(paths.SEEDS_PICTURE) as partial_file:
        figures.seeds(found).savefig(partial_file, format="png", dpi=100)
    console.print_seeds(found, sources[0])
    mlflow_runs.record(partial(mlflow_runs.seeds, found, models))


def train(names: Mapping[int, str]) -> None:
    """Have DVC run an experiment for each seed; the output is DVC's. Raises UserError where it fails."""
    there = subprocess.run(["dvc", "exp", "list", "--name-only"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    if earlier := sorted(set(there.split()) & set(names.values())):
        _dvc("exp", "remove", "--quiet", *earlier)
    for seed, name in names.items():
        _dvc("exp", "run", "--queue", "--name", name, "--set-param", f"seed={seed}")
    _dvc("exp", "run", "--run-all")


def read(path: Any, name: str) -> str:
    """A file of an experiment."""
    import dvc.api  # takes a second: only here
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    try:
        return str(dvc.api.read(path.as_posix(), rev=name))
    except (OSError, DvcException, SCMError):
        raise UserError(f"{name} did not end well: `dvc queue logs {name}` says why") from None


def _dvc(*arguments: str) -> None:
    if subprocess.run(["dvc", *arguments], check=False).returncode:  # noqa: S607
        raise UserError(f"dvc {arguments[0]} {arguments[1]} failed: see above")


if __name__ == "__main__":
    run(main)
