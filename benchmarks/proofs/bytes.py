"""The bytes of two runs of the pipeline: `make verify` runs what is out of date, then everything, and compares.

Every stage after fetch runs again, whatever DVC's cache has. Only metrics/timings.json may differ.
"""

import subprocess
import sys
from pathlib import Path

from cola.core import files, paths
from cola.core.errors import UserError, run
from cola.report import revision

FOLDERS = [paths.TOKENIZED, paths.FINETUNED, paths.TEST_METRICS.parent]


def main() -> None:
    run_pipeline()
    first = hash_outputs()
    run_pipeline("--force", "--downstream", "tokenize")
    second = hash_outputs()
    differing = [path for path in sorted(first.keys() | second.keys()) if first.get(path) != second.get(path)]
    for path, digest in second.items():
        print(f"{digest}  {path}{'  differs' * (path in differing)}")
    if differing:
        raise UserError(f"{len(differing)} of {len(second)} files are not the same twice, {differing[0]} for example")
    print(f"{len(second)} files are the same twice, byte for byte")


def run_pipeline(*options: str) -> None:
    """Run the pipeline, and show what it prints. Raises UserError if it fails."""
    command = [sys.executable, "-m", "dvc", "repro", *options]
    if subprocess.run(command, env=revision.make_environment(), check=False).returncode:
        raise UserError("dvc repro failed: see above")


def hash_outputs() -> dict[Path, str]:
    """Return the sha256 of every file that must repeat."""
    outputs = sorted(path for folder in FOLDERS for path in folder.iterdir() if path.is_file())
    return {path: files.hash_file(path) for path in outputs if path.name not in (".gitignore", paths.TIMINGS.name)}


if __name__ == "__main__":
    run(main)
