"""How long a whole run takes beside its training loop: `python -m benchmarks.overhead`, after `dvc repro fetch`.

Runs every stage after fetch again, and sets what is not the loop (start of processes, reading, validation, writing,
DVC's hashes, MLflow's records, evaluation) against the loop's own time.
"""

import subprocess
import time

from cola.core import files, paths
from cola.core.errors import UserError, run


def main() -> None:
    started = time.perf_counter()
    repro("--force", "--downstream", "tokenize")
    total = time.perf_counter() - started
    loop = files.read_json(paths.TIMINGS)["training_seconds"]
    print(f"{total:.1f} s in all, {loop:.1f} s of them the training loop: {(total - loop) / loop:.1%} on top of it")


def repro(*options: str) -> None:
    """Run the pipeline, and show what it says. Raises UserError where it fails."""
    if subprocess.run(["dvc", "repro", *options], check=False).returncode:  # noqa: S607
        raise UserError("dvc repro failed: see above")


if __name__ == "__main__":
    run(main)
