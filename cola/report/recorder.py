"""Records a stage in MLflow from a process of its own, which loads MLflow while the stage loads PyTorch.

The stage sends it lines of JSON through a pipe. While a training goes on, the stage never waits: not for the server,
not for this process, not for the pipe. At its end the stage waits for its record, which is thus of the files that it
wrote. When the stage has ended in another way, the recorder says so in MLflow, and has seconds to do it.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import IO, Any, cast

UPDATE_SECONDS = 1.0  # from one batch of points to the next
RETRY_SECONDS = 30.0  # after a fault of MLflow's: a server that hangs holds a call for 5 s
LAST_SECONDS = 5  # what is left to the recorder when its stage has ended


@cache
def start() -> subprocess.Popen[bytes]:
    """The process that is to record: it is started once. In a group of its own, it does not get the stage's Ctrl-C."""
    command = [sys.executable, "-m", "cola.report.recorder"]
    environment = {name: value for name, value in os.environ.items() if name != "RANK"}  # it is no process of training
    process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, process_group=0, env=environment)
    os.set_blocking(_pipe(process), False)
    return process


def send(**message: Any) -> None:
    """Tell of a training that goes on: a `step` or an `epoch`, as its row in the files. Less than 4 kB.

    It never waits: a line for which the pipe has no room is dropped whole. The record at the end has its points.
    """
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(_pipe(start()), _line(message))


@contextmanager
def live_run(**start: Any) -> Iterator[Callable[..., None]]:
    """A run in MLflow that is there while the training in this block goes on; yields `send`.

    `start` is what mlflow_runs.LiveRun takes. The run ends FAILED where an error ends the block, and KILLED where
    anything else does but `record`.
    """
    send(start=start)
    try:
        yield send
    except Exception:
        send(end="FAILED")
        raise


def record(stage: str) -> None:
    """Record what a stage wrote, and wait for it: `training`, `evaluation` or `samples`. Faults end in a warning."""
    process = start()
    start.cache_clear()
    os.set_blocking(_pipe(process), True)
    with suppress(BrokenPipeError):
        os.write(_pipe(process), _line({"record": stage}))
    process.wait()  # and only then is the pipe closed, by which the recorder sees that the stage has ended
    process.communicate()
    if process.returncode:  # killed, for want of memory say; MLflow's own faults are warned of there
        print(f"warning: not recorded in MLflow (status {process.returncode}); `make track` does it", file=sys.stderr)


def _pipe(process: subprocess.Popen[bytes]) -> int:
    return cast("IO[bytes]", process.stdin).fileno()


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


class Stage:
    """What the stage has sent. A thread reads it at once, so that the pipe is never full for long."""

    def __init__(self) -> None:
        self.start: dict[str, Any] | None = None
        # (step or epoch, its row in the files, milliseconds since 1970) of each
        self.rows: deque[tuple[str, dict[str, float], int]] = deque()
        self.record: str | None = None  # what is to be recorded of its files
        self.status = "KILLED"  # of its run, where there is no such record
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def take_rows(self) -> list[tuple[str, dict[str, float], int]]:
        return [self.rows.popleft() for _ in range(len(self.rows))]

    def _read(self) -> None:
        rest = b""
        while received := os.read(0, 1 << 16):  # not sys.stdin, whose lock would be held when Python ends
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                self._take(**json.loads(line))
        if self.start is None and self.record is None:
            os._exit(0)
        signal.alarm(LAST_SECONDS)
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            for output in (1, 2):  # whoever reads the stage's output need not wait for this process
                os.dup2(nowhere.fileno(), output)
        self.ended.set()

    def _take(self, start: Any = None, record: str | None = None, end: str | None = None, **row: Any) -> None:
        self.start, self.record, self.status = start or self.start, record or self.record, end or self.status
        self.rows.extend((index, values, int(time.time() * 1000)) for index, values in row.items())
        if record or end:
            self.ended.set()


def main() -> None:
    """Load MLflow, follow the training if there is one, and record what the stage wrote, or how it ended."""
    stage = Stage()
    gc.disable()  # as in stages/__init__.py
    from cola.report import mlflow_runs  # takes seconds: only now that what the stage sends is read

    mlflow_runs.prepare()
    gc.freeze()
    run, fault, retry_at = None, None, 0.0
    while not stage.ended.wait(UPDATE_SECONDS):
        if stage.start and time.monotonic() > retry_at:
            run = run or mlflow_runs.LiveRun(**stage.start)
            fault = mlflow_runs.fault(partial(run.update, stage.take_rows()))
            retry_at = time.monotonic() + RETRY_SECONDS if fault else 0.0
            if stage.ended.is_set():
                break
    else:
        fault = None  # an old one: the server may be back
    if stage.record:
        record = getattr(mlflow_runs, stage.record)
        mlflow_runs.warn(fault or mlflow_runs.fault(partial(record, live=run) if run else record))
    elif stage.start:
        run = run or mlflow_runs.LiveRun(**stage.start)
        mlflow_runs.fault(partial(run.end, stage.take_rows(), stage.status))


if __name__ == "__main__":
    main()
