"""The experiments so far, the best first: what differs between them, and their MCC: `make table`.

DVC's own table (`dvc exp show`) has a column for every setting, metric and dependency, and cuts what does not fit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cola.core import params, paths
from cola.core.errors import UserError, run
from cola.report import console

# Column of the table: its name in dvc.api.exp_show, which puts the file before a name that several files have.
METRICS = {"mcc": f"{paths.TEST_METRICS}:mcc", "validation_mcc": "validation_mcc"}


def rows(experiments: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> list[dict[str, str]]:
    """A row for each experiment of dvc.api.exp_show, the best test MCC first: its name, METRICS, settings that differ.

    What has not ended, or has failed, has no MCC, and comes last.
    """
    named = [experiment for experiment in experiments if experiment["Experiment"]]
    named.sort(
        key=lambda experiment: mcc if isinstance(mcc := experiment.get(METRICS["mcc"]), float) else -2.0, reverse=True
    )
    differing = [name for name in settings if len({experiment[name] for experiment in named}) > 1]
    return [
        {"Experiment": experiment["Experiment"]}
        | {
            name: f"{experiment[metric]:.3f}" if isinstance(experiment.get(metric), float) else "-"
            for name, metric in METRICS.items()
        }
        | {
            name: f"{experiment[name]:g}" if isinstance(experiment[name], float) else str(experiment[name])
            for name in differing
        }
        for experiment in named
    ]


def main() -> None:
    from dvc.api import exp_show  # takes a second: only here

    experiments = rows(exp_show(), list(params.flatten(params.load(paths.PARAMS))))
    if not experiments:
        raise UserError("no experiment has run at this commit: `make demo` runs one")
    table = console.empty_table()
    for name in experiments[0]:
        table.add_column(name.replace(".", ".\n"), overflow="fold", no_wrap=name in ("Experiment", *METRICS))
    for row in experiments:
        table.add_row(*row.values())
    console.plain_console().print(table)


if __name__ == "__main__":
    run(main)
