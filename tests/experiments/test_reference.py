"""How references are measured. test_references.py checks the committed ones."""

import json
import shutil
import sys

import pytest
from project import ROOT
from results import HISTORY, SOURCE

from cola.core import paths
from cola.core.errors import UserError
from cola.experiments import reference
from cola.report.revision import read_commit, run_program


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A repository in which experiments seem to have run: seed 42's MCC is 0.42, and so on. Returns their settings."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / paths.PARAMS, tmp_path)
    run_program("git", "init")
    run_program("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--allow-empty", "--message", "x")
    started = []

    def read(path, experiment):
        texts = {
            paths.FINETUNED / "source.json": json.dumps(SOURCE),
            paths.TEST_METRICS: json.dumps({"mcc": int(experiment.split("-")[-2]) / 100}),
            paths.TIMINGS: json.dumps({"device": "cpu, 2 threads", "precision": "bfloat16", "training_seconds": 3.5}),
            paths.HISTORY: HISTORY.to_csv(index=False),
        }
        return texts[path]

    def train(experiments):
        started.append(experiments)
        return {name: name for name in experiments}  # each name stands for its commit

    monkeypatch.setattr(reference.dvc_experiments, "run_experiments", train)
    monkeypatch.setattr(reference.revision, "read", read)
    return started


def test_five_seeds_are_trained_and_written(trained, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reference", "tiny/bert"])
    reference.main()
    (experiments,) = trained
    assert list(experiments.values()) == [
        {"fetch.encoder": "tiny/bert", "fetch.encoder_revision": None, "seed": seed} for seed in (42, 43, 44, 45, 46)
    ]
    assert next(iter(experiments)).startswith("fetch.encoder-tiny-bert-fetch.encoder_revision-null-seed-42-")
    written = json.loads((paths.REFERENCE / "bert.json").read_text())
    assert (written["mcc"], written["count"]) == (pytest.approx(0.44), 5)
    assert written["standard_deviation"] == pytest.approx(0.0158114)  # of 0.42, 0.43 ... 0.46: the root of 0.00025
    assert written["about"] == ['command: make reference ENCODERS="tiny/bert"', f"commit: {read_commit()}"]
    assert written["runs"][0] == {
        "seed": 42,
        "mcc": 0.42,
        "device": "cpu, 2 threads",
        "precision": "bfloat16",
        "training_loss": [0.65],
        "validation_loss": [0.7],
        "validation_accuracy": [0.8],
        "validation_mcc": [0.25],
    }
    assert json.loads((paths.REFERENCE / "bert" / "source.json").read_text()) == SOURCE


@pytest.mark.parametrize(
    ("encoders", "fault"),
    [
        ("", r"^which encoders\? make reference ENCODERS=google-bert/bert-base-uncased$"),
        ("'./my encoder", r"^ENCODERS cannot be read: No closing quotation$"),
        (
            "'./my encoder' './a/my encoder'",
            r"^my encoder would name two references: rename a folder$",
        ),
        ("./encoders/tutorial", r"^tutorial would name two references: rename a folder$"),
        ("tiny/bert a/b/c", r"^params.yaml: fetch.encoder .*, not 'a/b/c'$"),
        ("tiny/bert", r"commit first what has changed \(params.yaml\)$"),
    ],
)
def test_wrong_settings_are_refused_before_any_training(trained, monkeypatch, encoders, fault):
    run_program("git", "add", "params.yaml")  # which is not committed
    monkeypatch.setattr(sys, "argv", ["reference", encoders])
    with pytest.raises(UserError, match=fault):
        reference.main()
    assert trained == []
