"""Whether the result files in the workspace are of one run, as DVC sees it."""

import json

from cola.core.errors import UserError
from cola.report import revision

# What may change without a difference between the files of a result.
CODE = ("cola/", "stages/", "corpora")


def check_one_run(with_code: bool = False) -> None:
    """Raise UserError where a result file, or a setting, is not of the run that the others are of.

    `with_code`: or where the code or the corpora have changed since.
    """
    status = json.loads(revision.run_program("dvc", "status", "--json"))
    changes = [change for stage in status.values() for change in stage if isinstance(change, dict)]
    states = {path: state for change in changes for changed in change.values() for path, state in changed.items()}
    paths = sorted(path for path, state in states.items() if state != "not in cache")  # which is no change
    if changed := [path for path in paths if with_code or not path.startswith(CODE)]:
        raise UserError(f"the files are not of one run: `dvc repro` (changed since: {', '.join(changed)})")
