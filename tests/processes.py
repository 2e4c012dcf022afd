"""Programs that tests start beside themselves, and waiting for them."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

from project import ROOT


def free_port():
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds, what=lambda: "it took too long"):
    """Returns what `condition` returns as soon as it is true; fails after so many seconds, with the text of `what`."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)
    return result


def finished(command, folder=ROOT, **variables):
    """Run a command, with the library within reach and these environment variables added; return how it ended."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@contextmanager
def small_disk(limit):
    """In this process, no file grows beyond so many bytes, as if the disk were full.

    Python would cut the bytecode of a module that is imported meanwhile, and not notice: it writes none.
    """
    before, bytecode = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # Python has the signal ignored
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = bytecode


@contextmanager
def running(command, log, **settings):
    """Run a command, in a group of processes that is killed at the end; what it prints is in the file `log`."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, **settings)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
