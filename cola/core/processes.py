"""What a process changes for itself before it does anything else."""

import ctypes
import gc
import os
import signal
import sys
from types import TracebackType


def start_stage() -> None:
    """Make this process a stage: before the imports that take seconds.

    It ends with the `dvc` that runs it; else it would go on, and the next `dvc repro` would run a second one beside it.
    dvc.yaml passes the process id of dvc. Imports make a million objects that stay: collecting garbage among them takes
    a quarter of their time, and errors.run turns it on again.
    """
    dvc = os.environ.pop("DVC_PID", "")
    if "DVC_STAGE" in os.environ and not end_with_parent(int(dvc or os.getppid())):
        sys.exit("error: the dvc that started this stage has died; run `dvc repro` again")
    gc.disable()
    sys.excepthook = report_missing_package


def report_missing_package(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one line for a package that this Python lacks, and a traceback for all else."""
    if isinstance(error, ModuleNotFoundError):
        print(f"error: {sys.executable} has no package {error.name}: run `make .venv`, and this again", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def end_with_parent(parent: int) -> bool:
    """Have the kernel kill this process when its parent exits for any reason (Linux only).

    `parent` is the parent's process id. Returns whether it still lives. The kernel watches the thread that started this
    process: it must live as long as the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    return os.getppid() == parent
