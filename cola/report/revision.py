"""Result files of the workspace, of a DVC experiment or of a commit."""

from pathlib import Path

from cola.core.errors import UserError


def read(path: Path, revision: str | None, remedy: str) -> str:
    """The text of a file at a revision: the name of a DVC experiment, a commit, or None for the workspace.

    Raises UserError, which ends with `remedy`, where the file is not in it.
    """
    import dvc.api  # takes a second: only here
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    try:
        return str(dvc.api.read(path.as_posix(), rev=revision))
    except (OSError, DvcException, SCMError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not in {revision or 'the workspace'} ({reason}); {remedy}") from None
