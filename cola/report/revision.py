"""Result files of the workspace, of a DVC experiment or of a commit; and git and dvc, the programs that know them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cola.core import files, paths
from cola.core.errors import UserError, one_line
from cola.core.processes import end_with_parent


def run_program(*command: str, cwd: Path | None = None, **variables: str) -> str:
    """Return what git or dvc prints. It is killed if this process dies. Raises UserError with its words if it fails."""
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
        lines = (answer.stdout + answer.stderr).split("\n")
        errors = [line[len("error: ") :] for line in lines if line.lower().startswith("error: ")]
        reason = errors[0] if errors else " ".join(answer.stderr.split())
        raise UserError(f"{' '.join(command[:3])}: {reason}")
    return answer.stdout


def make_environment() -> dict[str, str]:
    """This process's environment, in which `dvc` and `python` are those of this Python, also where .venv is not active.

    DVC starts both by name: its workers, and the stages.
    """
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def read(path: Path, name: str | None) -> str:
    """The text of a file of a DVC experiment, of a commit, or, with None, of the workspace.

    Raises UserError where the name is unknown, or the file is not in it.
    """
    return read_bytes(path, name).decode("utf-8")


def read_bytes(path: Path, name: str | None) -> bytes:
    """As `read`, of any file."""
    import dvc.api  # takes a second: only here
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    # DVC takes a path in a commit from the root of git's repository, of which the project may be a folder.
    folder = run_program("git", "rev-parse", "--show-prefix").removesuffix("\n") if name else ""
    try:
        return bytes(dvc.api.read(Path(folder, path).as_posix(), rev=find_commit(name) if name else None, mode="rb"))
    except (OSError, DvcException, SCMError) as error:
        reason = one_line(error)
        remedy = "`dvc exp list` names the experiments" if name else "run `dvc repro`"
        raise UserError(f"{path} is not in {name or 'the workspace'} ({reason}); {remedy}") from None


def read_source(commits: Mapping[str, str]) -> Any:
    """The source.json of the first of these experiments, whose commits are given by name.

    Raises UserError where the files of the corpus or of the encoder differ: machines may hold different ones.
    """
    sources = {name: json.loads(read(paths.FINETUNED / "source.json", commit)) for name, commit in commits.items()}
    first, *others = sources
    for name in others:
        if any(sources[name][part].get("files") != sources[first][part].get("files") for part in ("corpus", "encoder")):
            raise UserError(
                f"{name} and {first} were trained with different files (models/finetuned/source.json has the sha256): "
                "give all machines the same corpus and encoder, remove both experiments (`dvc exp remove`, and on a "
                "cluster `dvc exp remove --git-remote origin`), and run this again"
            )
    return sources[first]


def read_model_digest(commit: str) -> str:
    """The sha256 of the model that an experiment has trained."""
    lines = read(paths.FINETUNED / files.CHECKSUMS, commit).splitlines()
    return next(line.split()[0] for line in lines if line.endswith("  model.safetensors"))


def list_experiments(baseline: str = "") -> dict[str, str]:
    """The commits, by name, of the experiments that were run at the commit `baseline`; without it, of all.

    The newest one counts where several have a name.
    """
    references = f"refs/exps/{baseline[:2]}/{baseline[2:]}/" if baseline else "refs/exps/"
    line = "--format=%(objectname) %(refname:lstrip=4)"
    lines = run_program("git", "for-each-ref", "--sort=creatordate", line, references).splitlines()
    return {name: commit for commit, _, name in (line.partition(" ") for line in lines)}


def find_commit(name: str) -> str:
    """The commit that a name means: an experiment's, first one of the workspace's commit; else as git reads the name.

    Raises UserError where there is none.
    """
    experiments = list_experiments() | list_experiments(read_commit())
    try:
        return experiments.get(name) or run_program("git", "rev-parse", "--verify", f"{name}^{{commit}}").strip()
    except UserError:
        raise UserError(
            f"{name} is no experiment and no commit; `dvc exp list --all-commits` names the experiments"
        ) from None


def read_commit() -> str:
    """The workspace's commit. Raises UserError where there is none, or git refuses."""
    run_program("git", "rev-parse", "--git-dir")  # what git refuses in any repository
    try:
        return run_program("git", "rev-parse", "--verify", "HEAD").strip()
    except UserError:
        raise UserError("this repository has no commit: git add --all && git commit") from None


def list_changes() -> list[str]:
    """The project's files that differ from the workspace's commit; files that git does not track do not count."""
    return run_program("git", "diff", "--relative", "--name-only", "HEAD").splitlines()


def describe_commit() -> str:
    """The workspace's commit, and whether files differ from it; "none" and a warning where git names none."""
    try:
        return read_commit() + (" and what has changed since" if list_changes() else "")
    except UserError as error:
        print(f"warning: the commit is unknown: {error}", file=sys.stderr)
        return "none"
