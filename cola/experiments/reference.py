"""Measure references: `make reference` trains each encoder with five seeds, and writes metrics/reference/.

Every training is a DVC experiment of the committed code and params.yaml, with another encoder and seed. Beside the
figures of all seeds, the first one leaves source.json, the files that show a result, without the corpus's sentences,
and pictures of them.
"""

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cola.core import files, paths
from cola.core.errors import UserError, run
from cola.experiments import dvc_queue
from cola.experiments.overrides import apply_settings, name_experiment
from cola.report import figures, references, revision

SEEDS = range(42, 47)
SHOWN = (paths.HISTORY, paths.TEST_METRICS, paths.ANALYSIS, paths.MCC_PER_BATCH, paths.PREDICTIONS, paths.SAMPLES)


def summarize(runs: Mapping[int, Mapping[str, Any]], command: str, commit: str) -> dict[str, Any]:
    """Contents of a reference file: mean, standard deviation, count, and each of `runs` (describe_run) by seed."""
    mccs = [run["mcc"] for run in runs.values()]
    return {
        "mcc": float(np.mean(mccs)),
        "standard_deviation": float(np.std(mccs, ddof=1)),
        "count": len(mccs),
        "about": [f"command: {command}", f"commit: {commit}"],
        "runs": [{"seed": seed, **run} for seed, run in runs.items()],
    }


def describe_run(test: Mapping[str, Any], history: pd.DataFrame, timings: Mapping[str, Any]) -> dict[str, Any]:
    """A run of a reference file: test MCC, machine, and the columns of history.csv."""
    columns = {name: history[name].tolist() for name in history.columns.drop("epoch")}
    machine = {name: timings[name] for name in ("device", "precision")}
    return {"mcc": test["mcc"], **machine, **columns}


def main() -> None:
    if not (encoders := sys.argv[1:]):
        raise UserError("which encoders? make reference ENCODERS=google-bert/bert-base-uncased")
    for encoder in encoders:  # all, before the first is trained
        apply_settings({"fetch.encoder": encoder})
    commit = revision.read_commit()
    if changed := revision.list_changes():
        raise UserError(f"a reference names its commit: commit first what has changed ({' '.join(changed)})")
    for encoder in encoders:
        settings = {seed: {"fetch.encoder": encoder, "seed": seed} for seed in SEEDS}
        names = {seed: name_experiment(settings[seed]) for seed in SEEDS}
        commits = dvc_queue.train({names[seed]: settings[seed] for seed in SEEDS})
        revision.read_source(commits)  # the same for all seeds
        _write(encoder, {seed: commits[name] for seed, name in names.items()}, commit)
    for encoder in encoders:
        draw(_stem(encoder))


def _write(encoder: str, experiments: Mapping[int, str], commit: str) -> None:
    stem, first = _stem(encoder), experiments[SEEDS[0]]
    for path in (paths.FINETUNED / "source.json", *SHOWN):
        files.write_text(paths.REFERENCE / stem / path.name, revision.read(path, first))
    predictions = paths.REFERENCE / stem / paths.PREDICTIONS.name
    files.write_csv(predictions, files.read_csv(predictions).drop(columns=["sentence_source", "sentence"]))
    runs = {
        seed: describe_run(
            json.loads(revision.read(paths.TEST_METRICS, name)),
            files.read_csv(io.StringIO(revision.read(paths.HISTORY, name))),
            json.loads(revision.read(paths.TIMINGS, name)),
        )
        for seed, name in experiments.items()
    }
    command = f"make reference ENCODERS={encoder}"
    path = paths.REFERENCE / f"{stem}.json"
    files.write_json(path, summarize(runs, command, commit))
    print(f"{path} and {paths.REFERENCE / stem}: commit them, and name {path} in dvc.yaml's metrics")


def draw(stem: str) -> None:
    """Draw a reference's first seed: the MCC of each batch, and its test MCC beside those of other references."""
    folder = paths.REFERENCE / stem
    names = ("source.json", paths.TEST_METRICS.name, paths.ANALYSIS.name)
    source, test, analysis = (files.read_json(folder / name) for name in names)
    compared = references.comparable_and_other_encoders(source, references.read())
    figures.save(figures.comparison(test["mcc"], analysis, *compared), folder / "comparison.png")
    per_batch = files.read_csv(folder / paths.MCC_PER_BATCH.name)
    figures.save(figures.mcc_per_batch(per_batch), folder / "mcc_per_batch.png")


def _stem(encoder: str) -> str:
    """'sentence-transformers/all-MiniLM-L6-v2' -> 'all-MiniLM-L6-v2', also of a folder."""
    return Path(encoder).name


if __name__ == "__main__":
    run(main)
