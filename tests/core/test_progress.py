import io
import re
import sys

import pytest

from cola.core import progress


def show(monkeypatch, steps, unit="sentences", terminal=False, total=None):
    """Return the text that a bar writes while work advances; `steps` are pairs of units and seconds."""
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    sys.stderr.isatty = lambda: terminal
    with progress.make_bar(total, unit, "epoch 1/4") as bar:
        for units, seconds in steps:
            now[0] += seconds
            bar.update(units)
    return sys.stderr.getvalue()


@pytest.mark.parametrize(
    ("steps", "unit", "total", "first_lines"),
    [
        ([(32, 1.0)] * 9, "sentences", 288, []),
        (
            [(32, 1.0)] * 35,
            "sentences",
            1120,
            [
                "epoch 1/4: 320/1120 sentences, 32.00 sentences/s, 00:25 left",
                "epoch 1/4: 640/1120 sentences, 32.00 sentences/s, 00:15 left",
            ],
        ),
        ([(32, 1.0)] * 15, "sentences", None, ["epoch 1/4: 320 sentences, 32.00 sentences/s"]),
        ([(10**6, 1.0)] * 20, "B", 20 * 10**6, ["epoch 1/4: 10.0M/20.0MB, 1.00MB/s, 00:10 left"]),
    ],
    ids=["short work", "long work", "unknown total", "bytes"],
)
def test_a_log_has_a_plain_line_every_ten_seconds(monkeypatch, steps, unit, total, first_lines):
    written = show(monkeypatch, steps, unit, total=total)
    lines = written.splitlines()
    assert all(lines), "no empty line"
    assert "\r" not in written, "which DVC shows as an empty line"
    assert lines[: len(first_lines)] == first_lines
    assert bool(lines) == bool(first_lines)


def test_a_log_has_its_lines_where_work_slows_down(monkeypatch):
    written = show(monkeypatch, [(32, 0.1)] * 200 + [(32, 5.0)] * 40, total=7680)
    assert written.count("left") >= 20, "of 220 seconds"


def test_a_terminal_has_a_bar_that_disappears_at_the_end(monkeypatch):
    written = show(monkeypatch, [(32, 1.0)] * 5, terminal=True, total=160)
    assert "100%" in written
    assert re.search(r"\r *\r$", written), "the bar's line is wiped"
    assert "\n" not in written
