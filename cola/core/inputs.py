"""The code and the settings of a stage, which must not change while it runs.

DVC hashes them when the stage has ended. After an edit in between, it would take the outputs for those of the new code
and settings, and would never make the new outputs.
"""

import os
import sys
from pathlib import Path

from cola.core import paths
from cola.core.errors import UserError

_before: dict[Path, bytes] = {}  # the files' contents when the stage began


def remember() -> None:
    """Read the code and the settings before the stage does."""
    for path in (*Path("cola").rglob("*.py"), *Path("stages").glob("*.py"), paths.PARAMS):
        _before[path] = path.read_bytes() if path.exists() else b""


def require_unchanged() -> None:
    """Raise UserError if a file that the stage has imported, or a setting in its `params` in dvc.yaml, has changed."""
    stage = os.environ.get("DVC_STAGE")
    if stage and (changed := [*_find_changed_code(), *_find_changed_settings(stage)]):
        raise UserError(
            f"{', '.join(changed)} changed while the stage ran, which DVC does not notice: run `dvc repro` again"
        )


def _find_changed_code() -> list[str]:
    imported = {getattr(module, "__file__", None) for module in [*sys.modules.values()]}
    code = [path for path in _before if str(path.absolute()) in imported and "report" not in path.parts]
    return [str(path) for path in code if not path.exists() or path.read_bytes() != _before[path]]


def _find_changed_settings(stage: str) -> list[str]:
    import yaml  # not at the top: a stage remembers its inputs before it needs packages

    from cola.core import params

    name, _, half = stage.partition("@")  # fetch@corpus
    definition = yaml.safe_load(Path("dvc.yaml").read_bytes())["stages"][name]
    sections = [f"fetch.{half}", definition["foreach"][half]["revision"]] if half else definition["params"]
    before, now = (
        params.flatten(settings)
        for settings in (params.parse(_before[paths.PARAMS], paths.PARAMS), params.load(paths.PARAMS))
    )
    watched = [key for key in before if any(f"{key}.".startswith(f"{section}.") for section in sections)]
    return [key for key in watched if before[key] != now[key]]
