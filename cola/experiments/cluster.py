"""Experiments on many machines, through a Dask cluster that runs already: its address is in DASK_SCHEDULER_ADDRESS.

A worker (`make worker`) clones the workspace's commit, runs one experiment at a time in the clone, and pushes it: its
commit to the git remote, its files to DVC's. Where a worker dies, another one takes its experiment; an experiment that
was pushed is not run again.
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from cola.core import progress
from cola.core.errors import UserError
from cola.core.processes import end_with_parent

try:
    from distributed import Client, as_completed, get_worker
except ModuleNotFoundError:
    raise UserError("a cluster needs Dask: pip install distributed") from None

RETRIES = 2  # of an experiment that failed; Dask has a limit of its own for workers that die
PATIENCE = 30  # seconds, for the scheduler and for its first worker


def train(experiments: Mapping[str, Sequence[str]], last_stages: Sequence[str] = ()) -> None:
    """Have the cluster run experiments, as seeds.train has them, and pull their results into this repository.

    Raises UserError where the workers could not have this commit, or where an experiment failed at every try.
    """
    origin, commit = _origin_and_commit()
    server = os.environ["MLFLOW_TRACKING_URI"]
    try:
        client = Client(timeout=PATIENCE)  # type: ignore[no-untyped-call]
        client.wait_for_workers(1, timeout=PATIENCE)
    except (OSError, ValueError) as error:  # also of a time that ran out
        raise UserError(f"no cluster, or one without workers (make worker): {error}") from None
    faults = {}
    with client, progress.bar(len(experiments), "experiments", "cluster") as bar:
        futures = {
            client.submit(
                train_one,
                *(origin, commit, name, list(settings), list(last_stages), server),
                key=f"{name}-{commit}",
                retries=RETRIES,
            ): name
            for name, settings in experiments.items()
        }
        for future in as_completed(futures):  # type: ignore[no-untyped-call]
            if fault := future.exception():
                faults[futures[future]] = str(fault)
            bar.update()
    _run("dvc", "exp", "pull", "--no-cache", "--force", "--rev", commit, origin)
    if faults:
        raise UserError("; ".join(f"{name} failed: {faults[name]}" for name in sorted(faults)))


def train_one(
    origin: str, commit: str, name: str, settings: Sequence[str], last_stages: Sequence[str], server: str
) -> None:
    """What a worker does: run an experiment at a commit of the repository `origin`, and push it to that repository.

    MLflow's `server` records the run. Raises RuntimeError with the error of the command that failed.
    """
    folder = Path(get_worker().local_directory)
    clone = folder / commit
    if not clone.exists():
        partial = Path(tempfile.mkdtemp(dir=folder))
        _run("git", "clone", "--quiet", "--no-checkout", origin, str(partial))
        _run("git", "checkout", "--quiet", "--detach", commit, cwd=partial)
        partial.rename(clone)
    if name in _run("dvc", "exp", "list", "--name-only", "--rev", commit, "origin", cwd=clone).split():
        return  # an earlier try has pushed it
    if name not in _run("dvc", "exp", "list", "--name-only", cwd=clone).split():
        _run("git", "reset", "--quiet", "--hard", cwd=clone)  # what the last experiment left
        _run("git", "clean", "--quiet", "--force", "-d", cwd=clone)
        options = [option for setting in settings for option in ("--set-param", setting)]
        command = ("dvc", "exp", "run", "--pull", "--name", name, *options, *last_stages)
        _run(*command, cwd=clone, MLFLOW_TRACKING_URI=server)
    _run("dvc", "exp", "push", "--force", "origin", name, cwd=clone)


def _origin_and_commit() -> tuple[str, str]:
    """The git remote's address, and the workspace's commit. Raises UserError where workers could not have it."""
    if "MLFLOW_TRACKING_URI" not in os.environ:
        raise UserError(
            "a cluster's runs need one MLflow server: set MLFLOW_TRACKING_URI to one that its workers reach"
        )
    if changed := _run("git", "status", "--porcelain", "--untracked-files=no").split():
        raise UserError(f"a cluster trains what is committed, and these have changed: {' '.join(changed[1::2])}")
    if "core.remote" not in _run("dvc", "config", "--project", "--list"):
        raise UserError("a cluster's results need a DVC remote: `dvc remote add --default`, then commit .dvc/config")
    commit = _run("git", "rev-parse", "HEAD").strip()
    if "origin/" not in _run("git", "branch", "--remotes", "--contains", commit):
        raise UserError("a cluster's workers clone `origin`, which lacks this commit: git push")
    return _run("git", "remote", "get-url", "origin").strip(), commit


def _run(*command: str, cwd: Path | None = None, **variables: str) -> str:
    """Return what a command prints; it is killed if this process dies. Raises RuntimeError with its error."""
    answer = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=partial(end_with_parent, os.getpid()),
    )
    if answer.returncode:
        lines = (answer.stdout + answer.stderr).split("\n")
        errors = [line for line in lines if line.lower().startswith("error: ")] or [answer.stderr.strip()]
        raise RuntimeError(f"{' '.join(command[:3])}: {errors[0].removeprefix('error: ')}")
    return answer.stdout
