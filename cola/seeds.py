"""Many seeds of one recipe: `python -m cola.seeds 10` trains with seeds 1 to 10 through DVC's queue, and sums them up.

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
from matplotlib.figure import Figure
from scipy import stats

from cola import artifacts, paths, report, tracking
from cola.errors import UserError, run


def summary(mccs: Mapping[int, float], comparable: bool) -> dict[str, Any]:
    """What the seeds' test MCCs, by seed, say together: at least two of them.

    interval: where the mean of many seeds lies, with 95% confidence. one_run: where one more seed would lie, in 95 of
    100 cases. Both take the MCCs as normally distributed.
    """
    values, public = np.array(list(mccs.values())), np.array(report.PUBLIC_RUNS)
    count, mean, deviation = len(values), float(values.mean()), float(values.std(ddof=1))
    reach = float(stats.t.ppf(0.975, count - 1)) * deviation
    one_run = [mean - reach * (1 + 1 / count) ** 0.5, mean + reach * (1 + 1 / count) ** 0.5]
    apart = stats.ttest_ind(values, public, equal_var=False).confidence_interval()
    within = "lies" if one_run[0] <= report.TUTORIAL_MCC <= one_run[1] else "does not lie"
    agree = "agrees with" if apart.low <= 0 <= apart.high else "differs from"
    return {
        "mcc": {str(seed): value for seed, value in mccs.items()},
        "mean": mean,
        "standard_deviation": deviation,
        "interval": [mean - reach / count**0.5, mean + reach / count**0.5],
        "one_run": one_run,
        "comparable": comparable,
        "verdict": f"The tutorial's {report.TUTORIAL_MCC} {within} within what one run may give, {one_run[0]:.3f} to "
        f"{one_run[1]:.3f}. The mean {agree} that of the {len(public)} public runs: {mean:.3f} and {public.mean():.3f}."
        if comparable
        else "Not comparable with the tutorial's 0.498 and the public runs: corpus or encoder is another.",
    }


def picture(found: Mapping[str, Any]) -> Figure:
    """Each seed's MCC, the mean's interval, and the public runs beside."""
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.subplots()
    public = "26 public runs" if found["comparable"] else "26 public runs\n(not comparable)"
    rows = {"these seeds": list(found["mcc"].values()), public: list(report.PUBLIC_RUNS)}
    for place, (name, values) in enumerate(rows.items()):
        spread = np.linspace(-0.12, 0.12, len(values))  # dots of like value side by side
        axes.plot(values, place + spread, "o", color=(report.BLUE, report.ORANGE)[place], alpha=0.6, label=name)
    low, high = found["interval"]
    axes.errorbar(found["mean"], -0.3, xerr=[[found["mean"] - low], [high - found["mean"]]], fmt="|k", capsize=3)
    axes.set(xlabel="test MCC", yticks=range(len(rows)), yticklabels=rows, ylim=(-0.5, len(rows) - 0.5))
    axes.set_title(f"mean {found['mean']:.3f}, 95% interval {low:.3f} to {high:.3f}", fontsize=10)
    return figure


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 2:
        raise UserError("how many seeds? at least 2: make seeds N=10")
    names = {seed: f"seed-{seed}" for seed in range(1, int(sys.argv[1]) + 1)}
    if "DASK_SCHEDULER_ADDRESS" in os.environ:
        from cola import cluster  # needs Dask, an optional extra, which takes a second to load

        cluster.train({name: [f"seed={seed}"] for seed, name in names.items()})
    else:
        train(names)
    sources = [json.loads(read(paths.FINETUNED / "source.json", name)) for name in names.values()]
    found = summary(
        {seed: json.loads(read(paths.TEST_METRICS, name))["mcc"] for seed, name in names.items()},
        report.comparable(sources[0]),
    )
    sums = [read(paths.FINETUNED / artifacts.SUMS, name).splitlines() for name in names.values()]
    models = [line.split()[0] for lines in sums for line in lines if line.endswith("  model.safetensors")]
    artifacts.write_json(paths.SEEDS, found)
    with artifacts.replacing(paths.SEEDS_PICTURE) as partial_file:
        picture(found).savefig(partial_file, format="png", dpi=100)
    report.print_seeds(found, sources[0])
    tracking.record(partial(tracking.seeds, found, models))


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
