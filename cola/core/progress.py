"""Progress of long work: a bar on a terminal, a plain line every ten seconds in a log."""

import io
import sys
from typing import Any

from tqdm import tqdm


class _Log(io.TextIOBase):
    """Standard error without tqdm's carriage returns: DVC shows each as an empty line."""

    def write(self, text: str) -> int:
        return sys.stderr.write(f"{line}\n") if (line := text.strip()) else 0

    def flush(self) -> None:
        sys.stderr.flush()


def make_bar(total: int | None, unit: str, description: str) -> "tqdm[Any]":
    """Return a progress bar, a context manager; `update(n)` moves it by n of `total` units (None: unknown).

    `unit` is a plural; 'B' shows bytes as kB, MB, GB.
    """
    terminal = sys.stderr.isatty()
    log_line = "{desc}: {n_fmt}{unit}, {rate_fmt}"
    if total:
        log_line = "{desc}: {n_fmt}/{total_fmt}{unit}, {rate_fmt}{postfix}, {remaining} left"
    return tqdm(
        total=total,
        file=sys.stderr if terminal else _Log(),
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
