"""Tests start programs and wait for them with these functions."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from functools import partial
from urllib.request import urlopen

from project import ROOT


def find_free_port():
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds, explain=lambda: "it took too long"):
    """Return the result of `condition` as soon as it is true; fail after so many seconds, with `explain`'s text."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)
    return result


def mlflow_answers(uri):
    """Return whether an MLflow server answers: it accepts connections seconds before it can."""
    try:
        with urlopen(f"{uri}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=10) as answer:  # noqa: S310
            return answer.status == 200
    except OSError:
        return False


def run_to_end(command, folder=ROOT, **variables):
    """Run a command with the project on Python's path and these environment variables; return how it ended."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@contextmanager
def small_disk(limit):
    """Limit the size of this process's files to so many bytes, as if the disk were full.

    Python writes no bytecode meanwhile: it would truncate a module's bytecode without noticing.
    """
    before, bytecode = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # Python ignores the signal
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = bytecode


@contextmanager
def running(command, log, **settings):
    """Run a command in a group of processes, which is killed at the end; its output goes to the file `log`."""
    with log.open("w") as file:
        # Tests that run under nohup ignore SIGHUP, and would pass that on.
        settings["preexec_fn"] = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, **settings)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
