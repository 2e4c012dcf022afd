import io
import re
import sys

from cola.core import progress


def shown(monkeypatch, steps, unit="sentences", terminal=False, seconds=1.0, known=True):
    """What a bar writes while work of `steps` moves on, a step in `seconds` (a number, or a list by step)."""
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    sys.stderr.isatty = lambda: terminal
    with progress.bar(sum(steps) if known else None, unit, "epoch 1/4") as bar:
        for number, step in enumerate(steps):
            now[0] += seconds[number] if isinstance(seconds, list) else seconds
            bar.update(step)
    return sys.stderr.getvalue()


def lines(text):
    return [line.strip() for line in re.split("[\r\n]+", text) if line.strip()]


def test_short_work_writes_nothing_to_a_log(monkeypatch):
    assert shown(monkeypatch, [32] * 9) == ""


def test_long_work_writes_a_plain_line_to_a_log_every_ten_seconds(monkeypatch):
    written = lines(shown(monkeypatch, [32] * 35))
    assert written[:3] == [
        "epoch 1/4: 320/1120 sentences, 32.00 sentences/s, 00:25 left",
        "epoch 1/4: 640/1120 sentences, 32.00 sentences/s, 00:15 left",
        "epoch 1/4: 960/1120 sentences, 32.00 sentences/s, 00:05 left",
    ]
    assert not re.search("[█#|\x1b]", "".join(written)), "a log has no bars"


def test_a_log_says_how_much_is_done_where_nobody_knows_of_how_much(monkeypatch):
    assert lines(shown(monkeypatch, [32] * 15, known=False))[0] == "epoch 1/4: 320 sentences, 32.00 sentences/s"


def test_a_log_has_its_lines_also_where_work_slows_down(monkeypatch):
    written = lines(shown(monkeypatch, [32] * 240, seconds=[0.1] * 200 + [5.0] * 40))
    assert len(written) >= 20, "of 220 seconds"


def test_bytes_are_shown_with_their_prefix(monkeypatch):
    assert lines(shown(monkeypatch, [1_000_000] * 20, unit="B"))[0].startswith("epoch 1/4: 10.0M/20.0MB, 1.00MB/s, ")


def test_a_terminal_has_a_bar_that_is_gone_at_the_end(monkeypatch):
    written = shown(monkeypatch, [32] * 5, terminal=True)
    assert "100%" in written
    assert re.search(r"\r *\r$", written), "the bar's line is wiped"
    assert "\n" not in written
