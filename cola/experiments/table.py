"""The experiments so far, the best first: what differs between them, and their MCC: `make table`.

DVC's own table (`dvc exp show`) has a column for every setting, metric and dependency, and cuts what does not fit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from cola.core import params, paths
from cola.core.errors import UserError, run

METRICS = ("mcc", "validation_mcc")


def rows(experiments: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> list[dict[str, str]]:
    """A row for each experiment of dvc.api.exp_show, the best test MCC first: its name, METRICS, settings that differ.

    What has not ended, or has failed, has no MCC, and comes last.
    """
    named = [each for each in experiments if each["Experiment"]]
    named.sort(key=lambda each: each["mcc"] if isinstance(each.get("mcc"), float) else -2.0, reverse=True)
    differing = [name for name in settings if len({each[name] for each in named}) > 1]
    return [
        {"Experiment": each["Experiment"]}
        | {name: f"{each[name]:.3f}" if isinstance(each.get(name), float) else "-" for name in METRICS}
        | {name: f"{each[name]:g}" if isinstance(each[name], float) else str(each[name]) for name in differing}
        for each in named
    ]


def main() -> None:
    from dvc.api import exp_show  # takes a second: only here

    found = rows(exp_show(), list(params.flatten(params.load(paths.PARAMS))))
    if not found:
        raise UserError("no experiment has run at this commit: `make demo` runs one")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in found[0]:
        table.add_column(name.replace(".", ".\n"), overflow="fold", no_wrap=name in ("Experiment", *METRICS))
    for row in found:
        table.add_row(*row.values())
    Console(highlight=False).print(table)


if __name__ == "__main__":
    run(main)
