"""Progress of long work: a bar on a terminal, a plain line every ten seconds where there is none."""

import sys
from typing import Any

from tqdm import tqdm


def bar(total: int | None, unit: str, description: str) -> "tqdm[Any]":
    """A progress bar, a context manager; `update(n)` moves it by n of the `total` units, None where that is unknown.

    `unit` is what is counted, in the plural; 'B' shows bytes as kB, MB, GB.
    """
    terminal = sys.stderr.isatty()
    so_far = (
        "{n_fmt}/{total_fmt}{unit}, {rate_fmt}{postfix}, {remaining} left" if total else "{n_fmt}{unit}, {rate_fmt}"
    )
    return tqdm(
        total=total,
        unit=unit if unit == "B" else f" {unit}",
        unit_scale=unit == "B",
        desc=description,
        dynamic_ncols=True,
        mininterval=0.1 if terminal else 10.0,
        miniters=0,  # time alone decides: tqdm's guess from a fast start would silence a slow end
        maxinterval=3600.0,  # and no thread of tqdm's own forces a line before its time
        delay=0 if terminal else 10.0,  # short work needs no line in a log
        leave=not terminal,
        bar_format=None if terminal else "{desc}: " + so_far + "\n",
    )
