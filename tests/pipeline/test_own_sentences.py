"""Sentences of one's own through the whole pipeline; its result shared; its seeds."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from project import MINILM, copy_of_the_project, outputs


@pytest.fixture(scope="module")
def own(tmp_path_factory, run):
    """A project with sentences of its own: three classes, by name."""
    settings = {"fetch__corpus": "corpora/example", "fetch__encoder": MINILM, "train__learning_rate": 1e-4}
    project = copy_of_the_project(tmp_path_factory.mktemp("own"), **settings)
    run(project, "dvc", "repro")
    return project


def test_sentences_of_ones_own_are_trained_on_like_any(own, run):
    test = json.loads((own / "metrics/test.json").read_text())
    assert test.keys() == {"mcc", "accuracy", "macro_f1", "sentences"}
    assert test["sentences"] == 24
    names = {"question", "request", "statement"}
    samples = json.loads((own / "metrics/samples.json").read_text())
    assert {sample["label"] for sample in samples} <= names
    assert pd.read_csv(own / "metrics/predictions.csv")["label"].value_counts().to_dict() == dict.fromkeys(names, 8)
    assert run(own, "make", "--silent", "predict", "TEXT=Is it late?").split()[0] in names
    assert "fine-tuned on example" in (own / "models/finetuned/README.md").read_text()
    client = MlflowClient(f"sqlite:///{own}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("bert-cola").experiment_id])
    assert found.data.tags["corpus"] == "example"


def test_a_result_that_was_pushed_is_pulled_without_training(own, run, tmp_path):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(own, "dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    run(own, "git", "add", "--all")
    run(own, "git", *identity, "commit", "--quiet", "--message", "a result")
    run(own, "dvc", "push")
    run(own, "git", "clone", "--quiet", str(own), str(tmp_path / "clone"))
    (tmp_path / "clone/.venv").symlink_to(Path(sys.executable).parents[1])
    printed = run(tmp_path / "clone", "dvc", "repro", "--pull")
    assert "Running stage" not in printed
    assert "up to date" in printed
    assert outputs(tmp_path / "clone") == outputs(own)


def test_a_change_in_corpora_is_noticed(own, run):
    file = own / "corpora/example/test.csv"
    text = file.read_text()
    file.write_text(text + "Sing louder!,request\n")
    assert "corpora" in run(own, "dvc", "status")
    file.write_text(text + "Sing louder!,order\n")
    printed = run(own, "dvc", "repro", fails=True)
    assert "error: corpora/example/test.csv, line 26: label 'order' does not occur among the training" in printed
    file.write_text(text)
    assert "Stage 'fetch' is cached" in run(own, "dvc", "repro")


def test_seeds_are_trained_through_the_queue_and_summed_up(own, run):
    printed = run(own, "make", "seeds", "N=2")
    assert "not comparable with the tutorial" in printed
    found = json.loads((own / "metrics/seeds.json").read_text())
    assert found["mcc"].keys() == {"1", "2"}
    assert found["mean"] == pytest.approx(sum(found["mcc"].values()) / 2)
    assert (own / "metrics/seeds.png").read_bytes().startswith(b"\x89PNG")
    client = MlflowClient(f"sqlite:///{own}/mlflow.db")
    experiment = client.get_experiment_by_name("bert-cola").experiment_id
    (parent,) = client.search_runs([experiment], "attributes.run_name = '2 seeds'")
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert {child.info.run_name for child in children} == {"seed-1", "seed-2"}
    assert {child.data.metrics["test_mcc"] for child in children} == set(found["mcc"].values())
    assert parent.data.metrics["test_mcc_mean"] == found["mean"]
    assert "mcc" in run(own, "dvc", "metrics", "diff", "--all", "seed-1", "seed-2")
    run(own, "dvc", "plots", "diff", "seed-1", "seed-2")
    page = (own / "dvc_plots/index.html").read_text()
    assert page.count("seed-1") > 1 < page.count("seed-2")
    table = run(own, "make", "table", COLUMNS="150")
    for words in ("Experiment", "mcc", "seed-1", "seed-2"):
        assert words in table


def test_a_sweep_queues_the_settings_of_berts_paper(own, run):
    would = run(own, "make", "--dry-run", "sweep")
    run(own, "bash", "-c", would[would.index("dvc exp run --queue") : would.index("dvc exp run --run-all")])
    assert run(own, "dvc", "queue", "status").count("Queued") == 2 * 3 * 3
    run(own, "dvc", "queue", "remove", "--queued")
