"""How references are measured, and that what is committed has the form that this writes."""

import json
import shutil
import sys

import pandas as pd
import pytest
from project import ROOT
from results import HISTORY, PREDICTIONS, SOURCE

from cola.core import paths
from cola.core.errors import UserError
from cola.experiments import reference
from cola.report.revision import read_commit, run_program

TIMINGS = {"device": "cpu, 2 threads", "precision": "bfloat16", "training_seconds": 3.5}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A repository in which five seeds of tiny/bert have run: seed 42's MCC is 0.42, and so on."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / paths.PARAMS, tmp_path)
    run_program("git", "init")
    run_program("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--allow-empty", "--message", "x")
    started = []

    def read(path, experiment):
        texts = {
            paths.FINETUNED / "source.json": json.dumps(SOURCE),
            paths.TEST_METRICS: json.dumps({"mcc": int(experiment.split("-")[-2]) / 100}),
            paths.TIMINGS: json.dumps(TIMINGS),
            paths.HISTORY: HISTORY.to_csv(index=False),
            paths.PREDICTIONS: PREDICTIONS.to_csv(index=False),
            paths.ANALYSIS: json.dumps({"mcc_low": 0.3, "mcc_high": 0.5, "bag_of_words_mcc": 0.1}),
            paths.MCC_PER_BATCH: "batch,mcc\n0,0.5\n",
        }
        return texts.get(path, f"{path.name} of seed {experiment.split('-')[-2]}")

    def train(experiments):
        started.append(experiments)
        return {name: name for name in experiments}  # which are read as commits are

    monkeypatch.setattr(reference.dvc_queue, "train", train)
    monkeypatch.setattr(reference.revision, "read", read)
    return started


def test_five_seeds_are_trained_and_written(trained, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reference", "tiny/bert"])
    reference.main()
    (experiments,) = trained
    assert list(experiments.values()) == [{"fetch.encoder": "tiny/bert", "seed": seed} for seed in (42, 43, 44, 45, 46)]
    assert next(iter(experiments)).startswith("fetch.encoder-tiny-bert-seed-42-")
    commit = read_commit()
    written = json.loads((paths.REFERENCE / "bert.json").read_text())
    assert (written["mcc"], written["count"]) == (pytest.approx(0.44), 5)
    assert written["standard_deviation"] == pytest.approx(0.0158114)  # of 0.42, 0.43 ... 0.46: the root of 0.00025
    assert written["about"] == ["command: make reference ENCODERS=tiny/bert", f"commit: {commit}"]
    assert written["runs"][0] == {
        "seed": 42,
        "mcc": 0.42,
        "device": "cpu, 2 threads",
        "precision": "bfloat16",
        "training_loss": [0.65],
        "validation_loss": [0.7],
        "validation_mcc": [0.25],
    }
    assert (paths.REFERENCE / "bert" / "samples.json").read_text() == "samples.json of seed 42"
    for picture in ("comparison.png", "mcc_per_batch.png"):
        assert (paths.REFERENCE / "bert" / picture).read_bytes().startswith(b"\x89PNG")
    predictions = pd.read_csv(paths.REFERENCE / "bert" / "predictions.csv")
    assert list(predictions) == ["label", "predicted", "probability", "correct"]
    assert len(predictions) == 2


def test_what_is_not_committed_has_no_commit_to_name(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reference", "tiny/bert"])
    run_program("git", "add", "params.yaml")
    with pytest.raises(UserError, match=r"commit first what has changed \(params.yaml\)"):
        reference.main()
    assert trained == []


@pytest.mark.parametrize(("encoders", "fault"), [([], "which encoders"), (["tiny/bert", "no name"], "not 'no name'")])
def test_wrong_encoders_are_refused_before_any_training(trained, monkeypatch, encoders, fault):
    monkeypatch.setattr(sys, "argv", ["reference", *encoders])
    with pytest.raises(UserError, match=fault):
        reference.main()
    assert trained == []


@pytest.mark.parametrize("stem", ["all-mpnet-base-v2", "all-MiniLM-L6-v2"])
def test_what_is_committed_has_the_form_that_is_written(stem):
    folder = ROOT / paths.REFERENCE / stem
    written = {"source.json", "comparison.png", "mcc_per_batch.png", *(path.name for path in reference.SHOWN)}
    assert {path.name for path in folder.iterdir()} == written
    committed = json.loads(folder.with_name(f"{stem}.json").read_text())
    history = pd.read_csv(folder / paths.HISTORY.name)
    first = committed["runs"][0]
    test = json.loads((folder / paths.TEST_METRICS.name).read_text())
    assert first == {"seed": 42, **reference.describe_run(test, history, first)}
    runs = {run.pop("seed"): run for run in committed["runs"]}
    command, commit = (line.partition(": ")[2] for line in committed["about"])
    assert committed == reference.summarize(runs, command, commit) | {"runs": committed["runs"]}
    assert list(runs) == list(reference.SEEDS)
    assert "sentence" not in pd.read_csv(folder / paths.PREDICTIONS.name)
