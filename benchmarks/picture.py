"""Draws docs/speed.png from the newest results of `make bench`: how much longer than bert-cola each method takes."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.speed import RESULTS
from cola.core.errors import UserError, run

PICTURE = Path("docs/speed.png")


def main() -> None:
    written = sorted(RESULTS.glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not written:
        raise UserError(f"{RESULTS} has no results; run make bench first")
    results = json.loads(written[-1].read_text())
    figure = Figure(figsize=(9, 8), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("training", "prediction"), strict=True):
        bars = [
            (f"{method}\n{shape}", found["ratio"])
            for shape, by_method in results[kind].items()
            for method, found in by_method.items()
            if "ratio" in found
        ]
        drawn = axes.barh(*zip(*reversed(bars), strict=True))
        axes.bar_label(drawn, fmt="%.1f", padding=3)
        axes.tick_params(axis="y", labelsize=7)
        axes.margins(x=0.18)
        axes.set_xlabel(f"{kind}: time, with bert-cola as 1")
    figure.suptitle(results["machine"], fontsize=9)
    figure.savefig(PICTURE, dpi=110)
    print(PICTURE)


if __name__ == "__main__":
    run(main)
