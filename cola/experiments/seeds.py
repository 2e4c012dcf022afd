"""Many seeds of one recipe: `python -m cola.experiments.seeds 10` trains with seeds 1 to 10 and sums them up.

Each seed is a DVC experiment of params.yaml, seed-1 for example. DVC's cache has the results of earlier ones. Writes
metrics/seeds.json and seeds.png, and one parent run in MLflow.
"""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.report_import_errors()

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from cola.core import files, params, paths
from cola.core.errors import UserError, run
from cola.experiments import dvc_experiments
from cola.report import console, figures, mlflow_logger, revision
from cola.report.references import Reference, compare, compute_prediction_interval, describe_recipe, select_comparable
from cola.report.references import read as read_references


def summarize(
    mccs: Mapping[int, float], source: Mapping[str, Any], settings: params.Params, references: Sequence[Reference]
) -> dict[str, Any]:
    """Contents of seeds.json: the statistics of at least two test MCCs, by seed, of one recipe.

    `source` is the models' source.json. The mean of many seeds lies in confidence_interval with 95% confidence, and one
    more seed in prediction_interval in 95 of 100 cases. Both take the MCCs as normally distributed.
    """
    values = list(mccs.values())
    count, mean, deviation = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    margin = float(stats.t.ppf(0.975, count - 1)) * deviation / count**0.5
    return {
        "mcc": {str(seed): value for seed, value in mccs.items()},
        "mean": mean,
        "standard_deviation": deviation,
        "confidence_interval": [mean - margin, mean + margin],
        "prediction_interval": list(compute_prediction_interval(values)),
        "references": {reference.name: list(reference.mccs) for reference in select_comparable(source, references)},
        "comparison": compare(values, source, references),
        "recipe": describe_recipe(source, settings),
    }


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal() or int(sys.argv[1]) < 2:
        raise UserError("how many seeds? at least 2: make seeds N=10")
    names = {seed: f"seed-{seed}" for seed in range(1, int(sys.argv[1]) + 1)}
    settings = params.load(paths.PARAMS)  # now: params.yaml may change during the hours of training
    commits = dvc_experiments.run_experiments({name: {"seed": seed} for seed, name in names.items()})
    source = revision.read_source(commits)
    mccs = {seed: json.loads(revision.read(paths.TEST_METRICS, commits[name]))["mcc"] for seed, name in names.items()}
    summary = summarize(mccs, source, settings, read_references())
    files.write_json(paths.SEEDS, summary)
    figures.save(figures.draw_seeds(summary), paths.SEEDS_PICTURE)
    console.print_seeds(summary, source)
    statistics = {f"test_mcc_{name}": {0: summary[name]} for name in ("mean", "standard_deviation")}
    models = [revision.read_model_digest(commit) for commit in commits.values()]
    mlflow_logger.record("parent", f"{len(mccs)} seeds", statistics, [paths.SEEDS, paths.SEEDS_PICTURE], models)


if __name__ == "__main__":
    run(main)
