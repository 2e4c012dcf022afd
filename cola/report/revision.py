"""Files of the workspace, of a DVC experiment or of a commit, and answers of git and dvc."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cola.core import files, paths
from cola.core.errors import UserError, join_lines
from cola.core.processes import end_with_parent


def run_program(*command: str, cwd: Path | None = None, **variables: str) -> str:
    """Return what git or dvc prints. Raises UserError with its message if it fails. It ends with this process."""
    program = [sys.executable, "-m", "dvc"] if command[0] == "dvc" else [command[0]]
    try:
        answer = subprocess.run(
            [*program, *command[1:]],
            cwd=cwd,
            env=make_environment() | variables,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            preexec_fn=partial(end_with_parent, os.getpid()),
        )
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed") from None
    if answer.returncode:
        error = re.search("^error: (.*)$", answer.stdout + answer.stderr, re.IGNORECASE | re.MULTILINE)
        reason = error[1] if error else " ".join(answer.stderr.split())
        raise UserError(f"{' '.join(command[:3])}: {reason}")
    return answer.stdout


def make_environment() -> dict[str, str]:
    """Return this process's environment with this Python's `dvc` and `python`, which DVC starts by name."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def read(path: Path, name: str | None) -> str:
    """Return the text of a file of a DVC experiment, of a commit or, with None, of the workspace.

    Raises UserError if the name is unknown or has no such file.
    """
    return read_bytes(path, name).decode("utf-8")


def read_bytes(path: Path, name: str | None) -> bytes:
    """Return the bytes of a file, as `read` returns its text."""
    import dvc.api  # takes a second
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    # In a commit DVC looks for a path from the root of git's repository. The project may be a folder in it.
    folder = run_program("git", "rev-parse", "--show-prefix").removesuffix("\n") if name else ""
    try:
        return bytes(dvc.api.read(Path(folder, path).as_posix(), rev=find_commit(name) if name else None, mode="rb"))
    except (OSError, DvcException, SCMError) as error:
        remedy = "`dvc exp list` names the experiments" if name else "run `dvc repro`"
        raise UserError(f"{path} is not in {name or 'the workspace'} ({join_lines(error)}); {remedy}") from None


def read_source(commits: Mapping[str, str]) -> Any:
    """Return the source.json of the first of these experiments ({name: commit}).

    Raises UserError if their corpora or encoders have different files, as machines of a cluster may have.
    """
    sources = {name: json.loads(read(paths.FINETUNED / "source.json", commit)) for name, commit in commits.items()}
    first, *later = sources
    for name in later:
        if any(sources[name][part].get("files") != sources[first][part].get("files") for part in ("corpus", "encoder")):
            raise UserError(
                f"{name} and {first} were trained with different files (models/finetuned/source.json has the sha256): "
                "give all machines the same corpus and encoder, remove both experiments (`dvc exp remove`, and on a "
                "cluster `dvc exp remove --git-remote origin`), and run this again"
            )
    return sources[first]


def read_model_digest(commit: str) -> str:
    """Return the sha256 of an experiment's model."""
    lines = read(paths.FINETUNED / files.CHECKSUMS, commit).splitlines()
    return next(line.split()[0] for line in lines if line.endswith("  model.safetensors"))


def list_experiments(baseline: str = "") -> dict[str, str]:
    """Return {name: commit} of all experiments, or of those at the commit `baseline`. The newest wins a shared name."""
    line = "--format=%(objectname) %(refname:lstrip=4)"
    lines = run_program("git", "for-each-ref", "--sort=creatordate", line, _name_folder(baseline)).splitlines()
    return {name: commit for commit, _, name in (line.partition(" ") for line in lines)}


def remove_experiment(name: str, baseline: str) -> None:
    """Remove the experiment of this name, if there is one, of the commit `baseline`."""
    run_program("git", "update-ref", "-d", f"{_name_folder(baseline)}{name}")


def _name_folder(baseline: str) -> str:
    """The folder in which git holds the experiments of a commit, or all."""
    return f"refs/exps/{baseline[:2]}/{baseline[2:]}/" if baseline else "refs/exps/"


def find_commit(name: str) -> str:
    """Return the commit of an experiment, or else git's commit of this name. Raises UserError if it is unknown.

    An experiment at the workspace's commit comes before experiments elsewhere.
    """
    experiments = list_experiments() | list_experiments(read_commit())
    try:
        return experiments.get(name) or run_program("git", "rev-parse", "--verify", f"{name}^{{commit}}").strip()
    except UserError:
        raise UserError(
            f"{name} is neither an experiment nor a commit: `dvc exp list --all-commits` names the experiments"
        ) from None


def read_commit() -> str:
    """Return the workspace's commit. Raises UserError if it has none or git refuses."""
    run_program("git", "rev-parse", "--git-dir")  # fails if git refuses the repository itself
    try:
        return run_program("git", "rev-parse", "--verify", "HEAD").strip()
    except UserError:
        raise UserError("this repository has no commit: git add --all && git commit") from None


def list_changes() -> list[str]:
    """Return the project's files that git tracks and that differ from the workspace's commit."""
    return run_program("git", "diff", "--relative", "--name-only", "HEAD").splitlines()


def describe_commit() -> str:
    """Return the workspace's commit, and whether it has uncommitted changes; "none" and a warning if git fails."""
    try:
        return read_commit() + (" with uncommitted changes" if list_changes() else "")
    except UserError as error:
        print(f"warning: the commit is unknown: {error}", file=sys.stderr)
        return "none"
