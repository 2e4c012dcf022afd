"""Records a stage in MLflow from a process of its own, which loads MLflow while the stage loads PyTorch.

Each takes seconds. The stage waits for its record, which is thus of the files that it wrote, and ends with the stage.
"""

import gc
import os
import subprocess
import sys
from functools import cache

from cola.core.processes import end_with_parent


@cache
def start() -> subprocess.Popen[str]:
    """The process that is to record: it is started once. In a group of its own, it does not get the stage's Ctrl-C."""
    command = [sys.executable, "-m", "cola.report.recorder", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, text=True, process_group=0)


def record(stage: str) -> None:
    """Record what a stage wrote, and wait for it: `training`, `evaluation` or `samples`. Faults end in a warning."""
    process = start()
    start.cache_clear()
    process.communicate(stage)
    if process.returncode:  # killed, for want of memory say; MLflow's own faults are warned of there
        print(f"warning: not recorded in MLflow (status {process.returncode}); `make track` does it", file=sys.stderr)


def main() -> None:
    """Load MLflow, wait for the name of what to record, and record it; a stage that fails sends none."""
    if not end_with_parent(int(sys.argv[1])):
        return
    gc.disable()  # as in stages/__init__.py
    from cola.report import mlflow_runs  # takes seconds: only now that it ends with the stage

    mlflow_runs.prepare()
    gc.freeze()
    if stage := sys.stdin.read():
        mlflow_runs.record(getattr(mlflow_runs, stage))


if __name__ == "__main__":
    main()
