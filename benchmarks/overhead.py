"""How long a whole run takes beside its training loop: `python -m benchmarks.overhead`, after `dvc repro fetch`.

First every stage after fetch runs again, on the corpus at hand; then `make demo` in a fresh clone of the last commit,
where no cache has anything. What is not the loop is the start of processes, reading, validation, writing, DVC's hashes,
MLflow's records, evaluation.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import dvc.api

from cola.core import files, paths
from cola.core.errors import UserError, run


def main() -> None:
    started = time.perf_counter()
    repro("--force", "--downstream", "tokenize")
    whole_run = describe("dvc repro", time.perf_counter() - started, files.read_json(paths.TIMINGS))
    with tempfile.TemporaryDirectory() as clone:
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)  # noqa: S607
        Path(clone, ".venv").symlink_to(Path(".venv").resolve())
        started = time.perf_counter()
        run_command("make", "demo", folder=clone)
        total = time.perf_counter() - started
        demo = describe("make demo", total, json.loads(dvc.api.read(paths.TIMINGS.as_posix(), clone, "demo")))
    print(whole_run, demo, sep="\n")


def describe(command: str, seconds: float, timings: dict[str, float]) -> str:
    """'dvc repro: 6.0 s, 5.0 s of them the training loop: 1.0 s (20.0%) on top of it'; timings of paths.TIMINGS"""
    loop = timings["training_seconds"]
    beyond = seconds - loop
    share = f"{beyond:.1f} s ({beyond / loop:.1%}) on top of it"
    return f"{command}: {seconds:.1f} s, {loop:.1f} s of them the training loop: {share}"


def repro(*options: str) -> None:
    """Run the pipeline, and show what it says. Raises UserError where it fails."""
    run_command("dvc", "repro", *options)


def run_command(*command: str, folder: str = ".") -> None:
    """Run a command in a folder, and show what it says. Raises UserError where it fails."""
    if subprocess.run(command, cwd=folder, check=False).returncode:
        raise UserError(f"{' '.join(command[:2])} failed: see above")


if __name__ == "__main__":
    run(main)
