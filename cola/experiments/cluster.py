"""Experiments on many machines, through a Dask cluster that runs already: its address is in DASK_SCHEDULER_ADDRESS.

A worker (`make worker`) clones the workspace's commit, runs one experiment at a time in the clone, and pushes it: its
commit to the git remote, its files to DVC's. After a worker's death, another worker runs its experiment.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cola.core import progress
from cola.core.errors import UserError, join_lines
from cola.experiments.overrides import Settings, quote_settings
from cola.report.revision import list_changes, read_commit, run_program

try:
    from distributed import Client, as_completed, get_worker
except ModuleNotFoundError:
    raise UserError("a cluster needs Dask: pip install distributed") from None

RETRIES = 2  # after an experiment's failure; Dask limits by itself how often a worker may die
PATIENCE = 30  # seconds, for the scheduler and for its first worker


class Project(NamedTuple):
    """The workers' inputs: the git remote's address, a commit, the project's folder in it, and MLflow's address."""

    origin: str
    commit: str
    folder: str
    server: str


def run_experiments(experiments: Mapping[str, Settings], last_stages: Sequence[str] = ()) -> None:
    """Have the cluster run experiments, settings by name, and pull their results into this repository.

    An experiment whose name was pushed is not run again: the caller compares settings. Raises UserError where workers
    cannot clone this commit, or where an experiment fails at every try.
    """
    project = _find_project()
    try:
        client = Client(timeout=PATIENCE)  # type: ignore[no-untyped-call]
        client.wait_for_workers(1, timeout=PATIENCE)
    except (OSError, ValueError) as error:  # timeouts are such errors, too
        raise UserError(f"no cluster, or one without workers (make worker): {error}") from None
    faults = {}
    with client, progress.make_bar(len(experiments), "experiments", "cluster") as bar:
        futures = {}
        for name, settings in experiments.items():
            task = (run_on_worker, project, name, dict(settings), list(last_stages))
            futures[client.submit(*task, key=f"{name}-{project.commit}", retries=RETRIES)] = name
        for future in as_completed(futures):  # type: ignore[no-untyped-call]
            if fault := future.exception():
                faults[futures[future]] = join_lines(fault)
            bar.update()
    run_program("dvc", "exp", "pull", "--no-cache", "--force", "--rev", project.commit, project.origin)
    if faults:
        raise UserError("; ".join(f"{name} failed: {faults[name]}" for name in sorted(faults)))


def run_on_worker(project: Project, name: str, settings: Settings, last_stages: Sequence[str]) -> None:
    """Run an experiment on a worker, and push it to the project's git remote. Raises a failed command's UserError."""
    local = Path(get_worker().local_directory)
    if not (local / project.commit).exists():
        partial_clone = Path(tempfile.mkdtemp(dir=local))
        run_program("git", "clone", "--quiet", "--no-checkout", project.origin, str(partial_clone))
        run_program("git", "checkout", "--quiet", "--detach", project.commit, cwd=partial_clone)
        partial_clone.rename(local / project.commit)
    clone = local / project.commit / project.folder
    if name in run_program("dvc", "exp", "list", "--name-only", "--rev", project.commit, "origin", cwd=clone).split():
        return  # an earlier try pushed it
    if name not in run_program("dvc", "exp", "list", "--name-only", cwd=clone).split():
        run_program("git", "reset", "--quiet", "--hard", cwd=clone)  # undoes the last experiment's changes
        run_program("git", "clean", "--quiet", "--force", "-d", cwd=clone)
        options = [option for setting in quote_settings(settings) for option in ("--set-param", setting)]
        command = ("dvc", "exp", "run", "--pull", "--name", name, *options, *last_stages)
        run_program(*command, cwd=clone, MLFLOW_TRACKING_URI=project.server)
    run_program("dvc", "exp", "push", "--force", "origin", name, cwd=clone)


def _find_project() -> Project:
    """The project that workers clone. Raises UserError where they cannot."""
    if "MLFLOW_TRACKING_URI" not in os.environ:
        raise UserError(
            "a cluster's runs need one MLflow server: set MLFLOW_TRACKING_URI to one that its workers reach"
        )
    if changed := list_changes():
        raise UserError(f"a cluster trains the commit: commit first what has changed ({' '.join(changed)})")
    if "core.remote" not in run_program("dvc", "config", "--project", "--list"):
        raise UserError("a cluster's results need a DVC remote: `dvc remote add --default`, then commit .dvc/config")
    commit = read_commit()
    if "origin/" not in run_program("git", "branch", "--remotes", "--contains", commit):
        raise UserError("a cluster's workers clone `origin`, which lacks this commit: git push")
    origin = run_program("git", "remote", "get-url", "origin").strip()
    folder = run_program("git", "rev-parse", "--show-prefix").removesuffix("\n")
    return Project(origin, commit, folder, os.environ["MLFLOW_TRACKING_URI"])
