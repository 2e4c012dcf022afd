"""Measure references: `make reference` trains each encoder with five seeds, and writes metrics/reference/.

A training is a DVC experiment of the committed code and params.yaml, with another encoder and seed. A reference is a
file of its runs, and the source.json of their models, which tells which other results it compares with.
"""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.report_import_errors()

import io
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cola.core import files, paths
from cola.core.errors import UserError, run
from cola.experiments import dvc_experiments
from cola.experiments.overrides import apply_settings, name_experiment
from cola.report import revision

SEEDS = range(42, 47)
RESERVED = ("tutorial", "public_runs", "demo", "data_curve")  # names of files that this command does not write


def summarize(runs: Mapping[int, Mapping[str, Any]], command: str, commit: str) -> dict[str, Any]:
    """Contents of a reference file: mean, standard deviation and count of the runs' test MCCs, and each run by seed."""
    mccs = [measured["mcc"] for measured in runs.values()]
    return {
        "mcc": float(np.mean(mccs)),
        "standard_deviation": float(np.std(mccs, ddof=1)),
        "count": len(mccs),
        "about": [f"command: {command}", f"commit: {commit}"],
        "runs": [{"seed": seed, **measured} for seed, measured in runs.items()],
    }


def read_run(commit: str) -> dict[str, Any]:
    """An experiment's test MCC, its machine, and the columns of its history.csv."""
    test, timings = (json.loads(revision.read(path, commit)) for path in (paths.TEST_METRICS, paths.TIMINGS))
    history = files.read_csv(io.StringIO(revision.read(paths.HISTORY, commit))).drop(columns="epoch")
    machine = {name: timings[name] for name in ("device", "precision")}
    return {"mcc": test["mcc"], **machine, **history.to_dict("list")}


def main() -> None:
    try:
        encoders = shlex.split(" ".join(sys.argv[1:]))
    except ValueError as error:
        raise UserError(f"ENCODERS cannot be read: {error}") from None
    if not encoders:
        raise UserError("which encoders? make reference ENCODERS=google-bert/bert-base-uncased")
    names = [Path(encoder).name for encoder in encoders]
    if taken := [name for name in names if name in RESERVED or names.count(name) > 1]:
        raise UserError(f"{taken[0]} would name two references: rename a folder")
    for encoder in encoders:  # all, before the first is trained
        apply_settings({"fetch.encoder": encoder})
    commit = revision.read_commit()
    if changed := revision.list_changes():
        raise UserError(f"a reference names its commit: commit first what has changed ({' '.join(changed)})")
    for encoder in encoders:
        settings = {seed: {"fetch.encoder": encoder, "fetch.encoder_revision": None, "seed": seed} for seed in SEEDS}
        experiments = {seed: name_experiment(settings[seed]) for seed in SEEDS}
        commits = dvc_experiments.run_experiments({experiments[seed]: settings[seed] for seed in SEEDS})
        folder = paths.REFERENCE / Path(encoder).name
        files.write_json(folder / "source.json", revision.read_source(commits))
        runs = {seed: read_run(commits[name]) for seed, name in experiments.items()}
        path = folder.with_name(f"{folder.name}.json")
        files.write_json(path, summarize(runs, f'make reference ENCODERS="{shlex.quote(encoder)}"', commit))
        print(f"{path} and {folder}: commit them, and name {path} in dvc.yaml's metrics")


if __name__ == "__main__":
    run(main)
