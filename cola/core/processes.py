"""The set-up of a stage's process, before its imports."""

import ctypes
import gc
import os
import signal
import sys
from types import TracebackType

from cola.core import inputs


def start_stage() -> None:
    """Make this process a stage. Call it before the imports that take seconds.

    The stage ends with the `dvc` that runs it, whose process id stages/run.sh passes. Otherwise it would go on, and the
    next `dvc repro` would run a second stage beside it. Garbage collection is off until errors.run: imports make a
    million objects that stay, and scanning them takes a quarter of the imports' time.
    """
    dvc = os.environ.pop("DVC_PID", "")
    if "DVC_STAGE" in os.environ and not end_with_parent(int(dvc or os.getppid())):
        sys.exit("error: the dvc that started this stage has died; run `dvc repro` again")
    inputs.remember()
    gc.disable()
    report_import_errors()


def report_import_errors() -> None:
    """Let this process print one line for an error during its imports, after which errors.run does so."""
    sys.excepthook = _print_import_error


def _print_import_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one line for Ctrl-C, a package that this Python lacks and damaged bytecode; else a traceback."""
    if isinstance(error, ModuleNotFoundError):
        remedy = "run `make .venv && source .venv/bin/activate`, and this again"
        print(f"error: {sys.executable} has no package {error.name}: {remedy}", file=sys.stderr)
    elif isinstance(error, EOFError) and "marshal" in str(error):
        # Some versions of Python write half a file to a full disk.
        remedy = "find cola stages .venv -name __pycache__ -prune -exec rm -r {} +"
        print(f"error: Python's bytecode is damaged ({error}): run `{remedy}`, and this again", file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def end_with_parent(parent: int) -> bool:
    """Have the kernel kill this process when its parent exits for any reason (Linux only).

    Returns whether `parent`, a process id, is still the parent. The kernel watches the thread that started this
    process: that thread must live as long as the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    return os.getppid() == parent
