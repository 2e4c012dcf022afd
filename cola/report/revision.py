"""Result files of the workspace, of a DVC experiment or of a commit."""

import subprocess
from pathlib import Path

from cola.core.errors import UserError


def read(path: Path, revision: str | None, remedy: str) -> str:
    """The text of a file at a revision: the name of a DVC experiment, a commit, or None for the workspace.

    Raises UserError, which ends with `remedy`, where the file is not in it.
    """
    return read_bytes(path, revision, remedy).decode("utf-8")


def read_bytes(path: Path, revision: str | None, remedy: str) -> bytes:
    """As `read`, of any file."""
    import dvc.api  # takes a second: only here
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    try:
        return bytes(dvc.api.read(path.as_posix(), rev=revision, mode="rb"))
    except (OSError, DvcException, SCMError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not in {revision or 'the workspace'} ({reason}); {remedy}") from None


def commit() -> str:
    """The commit of the workspace, and whether files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607

    changed = " and what has changed since" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "HEAD") or "none") + changed
