"""A user's corpus through the whole pipeline, and a shared result."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from project import STAGES, copy_project, list_runs, outputs, run_stage

from cola import predict

SETTINGS = {"fetch__corpus": "corpora/example", "train__epochs": 1}


@pytest.fixture
def project(tmp_path, tiny_encoder):
    return copy_project(tmp_path, fetch__encoder=str(tiny_encoder), **SETTINGS)


def test_a_users_corpus_runs_through_all_stages(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    with Path("corpora/example/train.csv").open("a") as table:
        table.write("What a day!,exclamation\n")
        table.write(f"{'Tell me more. ' * 30},request\n")
    for stage in STAGES:
        run_stage(stage)
    printed = capsys.readouterr().out
    assert "note: sentences with more tokens than tokenize.max_length, 64, which are cut: 1\n" in printed
    for split in ("validation", "test"):
        assert f"note: {split} has no sentence with these labels: exclamation\n" in printed
    test = json.loads(Path("metrics/test.json").read_text())
    assert test.keys() == {"mcc", "accuracy", "macro_f1", "sentences"}
    assert test["sentences"] == 24
    names = {"question", "request", "statement"}  # of the test sentences
    samples = json.loads(Path("metrics/samples.json").read_text())
    assert {sample["label"] for sample in samples} <= names
    predictions = pd.read_csv("metrics/predictions.csv")
    assert predictions["label"].value_counts().to_dict() == dict.fromkeys(names, 8)
    assert "fine-tuned on example" in Path("models/finetuned/README.md").read_text()
    _, (recorded,) = list_runs(project)
    assert recorded.data.tags["corpus"] == "example"
    monkeypatch.setattr(sys, "argv", ["predict", "Is it late?"])
    predict.main()
    assert capsys.readouterr().out.split()[0] in {*names, "exclamation"}


@pytest.mark.slow
def test_a_pushed_result_is_pulled_without_training(applied, run, tmp_path):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(applied, "dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    run(applied, "git", "add", "--all")
    run(applied, "git", *identity, "commit", "--quiet", "--message", "a result")
    run(applied, "dvc", "push")
    run(applied, "git", "clone", "--quiet", str(applied), str(tmp_path / "clone"))
    (tmp_path / "clone/.venv").symlink_to(Path(sys.executable).parents[1])
    printed = run(tmp_path / "clone", "dvc", "repro", "--pull")
    assert "Running stage" not in printed
    assert "up to date" in printed
    assert outputs(tmp_path / "clone") == outputs(applied)
    assert run(tmp_path / "clone", "git", "status", "--porcelain") == ""
