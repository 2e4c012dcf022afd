"""Progress of long work: a bar on a terminal, a plain line every ten seconds in a log."""

import sys
from typing import Any

from tqdm import tqdm


def make_bar(total: int | None, unit: str, description: str) -> "tqdm[Any]":
    """Return a progress bar, a context manager; `update(n)` moves it by n of `total` units (None: unknown).

    `unit` is a plural; 'B' shows bytes as kB, MB, GB.
    """
    terminal = sys.stderr.isatty()
    log_line = "{desc}: {n_fmt}{unit}, {rate_fmt}\n"
    if total:
        log_line = "{desc}: {n_fmt}/{total_fmt}{unit}, {rate_fmt}{postfix}, {remaining} left\n"
    return tqdm(
        total=total,
        unit=unit if unit == "B" else f" {unit}",
        unit_scale=unit == "B",
        desc=description,
        dynamic_ncols=True,
        mininterval=0.1 if terminal else 10.0,
        miniters=0,  # refresh by time only: tqdm's adaptive interval would skip updates when work slows down
        maxinterval=3600.0,  # keeps tqdm's thread from printing a line early
        delay=0 if terminal else 10.0,  # short work needs no line in a log
        leave=not terminal,
        bar_format=None if terminal else log_line,
    )
