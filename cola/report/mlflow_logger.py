"""Logs a stage to MLflow from a process beside it, which imports MLflow while the stage imports PyTorch.

A training never waits: its rows go through a queue. At its end a stage waits for its record, within limits: DVC may
remove the recorded files after the stage.
"""

import gc
import multiprocessing
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any, NamedTuple

from cola.core import processes
from cola.core.errors import join_lines

UPDATE_SECONDS = 1.0  # between two batches of points
# At its end a stage waits until MLflow is imported, until MLflow answers, and until the record is complete.
LIMITS = (60, 10, 60)  # seconds


class Logger(NamedTuple):
    """The process that logs this stage."""

    process: BaseProcess
    messages: "Queue[Any]"  # to the process: (kind, value)
    reports: Connection  # from the process: None within each of LIMITS, or an error


_logger: Logger | None = None  # this stage's


def start() -> None:
    """Fork the process that logs this stage: before other imports, while this process is small and has no threads.

    In a training of several processes, only rank 0 does so.
    """
    global _logger
    if os.environ.get("RANK", "0") == "0":
        context = multiprocessing.get_context("fork")
        messages: Queue[Any] = context.Queue()
        messages.cancel_join_thread()  # the stage can end with unread messages
        reports, sender = context.Pipe(duplex=False)
        process = context.Process(target=_follow, args=(os.getpid(), messages, sender), daemon=True)
        process.start()
        sender.close()
        _logger = Logger(process, messages, reports)


def send(kind: str, row: dict[str, float]) -> None:
    """Log a "step" or an "epoch" of a training: its row of steps.csv or history.csv. Never waits."""
    if _logger:
        _logger.messages.put((kind, (row, int(time.time() * 1000))))


@contextmanager
def live_run(**training: Any) -> Iterator[Callable[[str, dict[str, float]], None]]:
    """An MLflow run that is RUNNING while the training in this block runs; yields `send`.

    `training` has the arguments of mlflow_runs.TrainingRun. After an error the run is FAILED, after Ctrl-C KILLED.
    """
    if _logger:
        _logger.messages.put(("start", training))
    try:
        yield send
    except BaseException as error:
        if _logger:
            _finish(_logger, "end", status="FAILED" if isinstance(error, Exception) else "KILLED")
        raise


def record(kind: str, *arguments: Any) -> None:
    """Call mlflow_runs.log_{kind}: "training", "evaluation" or "samples", or "parent" with its arguments.

    The process of `start` makes the call, or this process if `start` was not called. A failure is a warning.
    """
    if _logger:
        error = _finish(_logger, kind)
    else:
        from cola.report import mlflow_runs, mlflow_store  # take seconds to import

        again = "the same command" if kind == "parent" else "`make track`"
        error = mlflow_store.try_log(lambda store: getattr(mlflow_runs, f"log_{kind}")(store, *arguments), again)
    if error:
        print(f"warning: not recorded in MLflow: {error}", file=sys.stderr)


def _finish(logger: Logger, kind: str, **arguments: str) -> str | None:
    """Let the process call log_{kind}, wait within LIMITS, and kill it. Returns the error, or None."""
    global _logger
    _logger = None
    logger.messages.put((kind, arguments))
    try:
        for seconds in LIMITS:
            if not logger.reports.poll(seconds):
                return f"no answer for {seconds} s; `make track` records it later"
            if error := logger.reports.recv():
                return str(error)
    except EOFError:
        return "the process that records was killed; `make track` records it later"
    finally:
        logger.process.kill()
        logger.process.join()
    return None


def _follow(stage: int, messages: "Queue[Any]", reports: Connection) -> None:
    """Log the stage with this process id until its last message or its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the stage, which then sends KILLED
    if not processes.end_with_parent(stage):
        return
    try:
        from cola.report import mlflow_runs, mlflow_store  # take seconds to import
    except ModuleNotFoundError as error:
        reports.send(f"{sys.executable} has no package {error.name}: run `make .venv`, then `make track`")
        return
    except Exception as error:  # a wrong variable, such as MLFLOW_LOGGING_LEVEL
        reports.send(f"MLflow cannot be imported: {join_lines(error)}; fix that, and `make track` records it")
        return
    with suppress(Exception):  # the first record raises it again
        mlflow_store.connect()
    gc.freeze()  # the imported objects are never garbage
    gc.enable()  # it was disabled in the stage
    reports.send(None)
    run, updated = None, 0.0
    while os.getppid() == stage:  # on macOS the kernel does not end this process
        with suppress(queue.Empty):
            kind, value = messages.get(timeout=UPDATE_SECONDS)
            if kind == "start":
                run = mlflow_runs.TrainingRun(**value)
            elif run and kind in ("step", "epoch"):
                run.add(kind, *value)
            else:
                reports.send(mlflow_store.try_log(lambda store: None))  # whether MLflow answers
                log = getattr(mlflow_runs, f"log_{kind}")
                reports.send(mlflow_store.try_log(partial(log, run=run, **value) if run else log))
                return
        if run and time.monotonic() > updated + UPDATE_SECONDS:
            mlflow_store.try_log(run.update)
            updated = time.monotonic()
