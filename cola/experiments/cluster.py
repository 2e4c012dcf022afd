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
from typing import NamedTuple

from cola.core import progress
from cola.core.errors import UserError
from cola.core.processes import end_with_parent

try:
    from distributed import Client, as_completed, get_worker
except ModuleNotFoundError:
    raise UserError("a cluster needs Dask: pip install distributed") from None

RETRIES = 2  # of an experiment that failed; Dask has a limit of its own for workers that die
PATIENCE = 30  # seconds, for the scheduler and for its first worker


class Project(NamedTuple):
    """What workers clone and train: the git remote's address, and a commit. `server` is MLflow's, for their records."""

    origin: str
    commit: str
    server: str


def train(experiments: Mapping[str, Sequence[str]], last_stages: Sequence[str] = ()) -> None:
    """Have the cluster run experiments, names with settings, and pull their results into this repository.

    A name must hold the settings: an experiment of this name that was pushed is not run again. Raises UserError where
    workers cannot clone this commit, or where an experiment fails at every try.
    """
    project = _find_project()
    try:
        client = Client(timeout=PATIENCE)  # type: ignore[no-untyped-call]
        client.wait_for_workers(1, timeout=PATIENCE)
    except (OSError, ValueError) as error:  # also of a time that ran out
        raise UserError(f"no cluster, or one without workers (make worker): {error}") from None
    faults = {}
    with client, progress.bar(len(experiments), "experiments", "cluster") as bar:
        futures = {}
        for name, settings in experiments.items():
            task = (train_one, project, name, list(settings), list(last_stages))
            futures[client.submit(*task, key=f"{name}-{project.commit}", retries=RETRIES)] = name
        for future in as_completed(futures):  # type: ignore[no-untyped-call]
            if fault := future.exception():
                faults[futures[future]] = str(fault)
            bar.update()
    _run("dvc", "exp", "pull", "--no-cache", "--force", "--rev", project.commit, project.origin)
    if faults:
        raise UserError("; ".join(f"{name} failed: {faults[name]}" for name in sorted(faults)))


def train_one(project: Project, name: str, settings: Sequence[str], last_stages: Sequence[str]) -> None:
    """Run an experiment of a project, on a worker, and push it to the project's git remote.

    Raises RuntimeError with the error of the command that failed.
    """
    folder = Path(get_worker().local_directory)
    clone = folder / project.commit
    if not clone.exists():
        partial_clone = Path(tempfile.mkdtemp(dir=folder))
        _run("git", "clone", "--quiet", "--no-checkout", project.origin, str(partial_clone))
        _run("git", "checkout", "--quiet", "--detach", project.commit, cwd=partial_clone)
        partial_clone.rename(clone)
    if name in _run("dvc", "exp", "list", "--name-only", "--rev", project.commit, "origin", cwd=clone).split():
        return  # an earlier try has pushed it
    if name not in _run("dvc", "exp", "list", "--name-only", cwd=clone).split():
        _run("git", "reset", "--quiet", "--hard", cwd=clone)  # removes what the last experiment left
        _run("git", "clean", "--quiet", "--force", "-d", cwd=clone)
        options = [option for setting in settings for option in ("--set-param", setting)]
        command = ("dvc", "exp", "run", "--pull", "--name", name, *options, *last_stages)
        _run(*command, cwd=clone, MLFLOW_TRACKING_URI=project.server)
    _run("dvc", "exp", "push", "--force", "origin", name, cwd=clone)


def _find_project() -> Project:
    """The project as workers clone it. Raises UserError where they cannot."""
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
    origin = _run("git", "remote", "get-url", "origin").strip()
    return Project(origin, commit, os.environ["MLFLOW_TRACKING_URI"])


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
