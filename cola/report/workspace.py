"""A check that the workspace's files belong to the same run."""

import json
from pathlib import Path

import yaml

from cola.core import files, paths
from cola.core.errors import UserError
from cola.report import revision

CODE = ("cola/", "stages/", "corpora")
NO_RESULT = (
    "the workspace has no trained model: run `make repro`, or `make demo` and `dvc exp apply demo`, or, where a DVC "
    "remote has one, `dvc repro --pull`"
)


def check_one_run(with_code: bool = False) -> None:
    """Raise UserError if DVC sees a result or a setting of another run; `with_code`: or if code or corpora changed."""
    if not paths.FINETUNED.exists():
        raise UserError(NO_RESULT)
    files.verify(paths.FINETUNED)  # `dvc status` would fail at a broken link
    status = json.loads(revision.run_program("dvc", "status", "--json"))
    stages = yaml.safe_load(Path("dvc.yaml").read_bytes())["stages"]
    if frozen := [name for name, stage in stages.items() if (stage.get("do") or stage).get("frozen")]:
        raise UserError(f"DVC does not see the changes of a frozen stage: run `dvc unfreeze {' '.join(frozen)}`")
    changes = [change for stage in status.values() for change in stage if isinstance(change, dict)]
    states = {path: state for change in changes for changed in change.values() for path, state in changed.items()}
    differing = sorted(path for path, state in states.items() if state != "not in cache")  # as in a clone
    if changed := [path for path in differing if with_code or not path.startswith(CODE)]:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise UserError(f"the files are not those of one run: run `dvc repro` (changed or missing: {shown})")
