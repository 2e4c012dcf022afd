"""The data curve's plan, its statistics by hand, a whole one, and the committed ones."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from project import ROOT, copy_project, list_runs

from cola.core import params, paths
from cola.experiments import data_curve
from cola.experiments.data_curve import Run

SETTINGS = params.load(ROOT / paths.PARAMS)
# Ten labels, and predictions with all, eight (MCC 0.6) and five (MCC 0) of them right.
LABELS = np.array([0] * 5 + [1] * 5)
RIGHT = LABELS
MOST = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1])
CONSTANT = np.ones(10, int)


def test_every_encoder_size_and_seed_is_trained_for_250_steps_or_more_and_the_longest_first():
    plan = data_curve.plan_experiments(5400, SETTINGS.train)
    assert [run.method for run in plan] == ["pretrained"] * 15 + ["random_weights"] * 15
    assert [run.seed for run in plan] == [42, 43, 44] * 10
    # Steps in an epoch: 169, 4, 94, 10, 32. Costs: 4 * (16,200 + 600), 63 * 900, 4 * 9,600, 25 * 1,500, 8 * 3,600.
    planned = [(run.sentences, changes["train.epochs"]) for run, changes in plan.items()]
    assert planned[::3] == [(5400, 4), (100, 63), (3000, 4), (300, 25), (1000, 8)] * 2
    assert plan[Run("pretrained", 5400, 42)] == {"seed": 42, "train.pretrained": True, "train.epochs": 4}
    few = {"tokenize.training_sentences": 100, "train.pretrained": False, "train.epochs": 63}
    assert plan[Run("random_weights", 100, 43)] == {"seed": 43, **few}
    small = data_curve.plan_experiments(900, SETTINGS.train)
    assert sorted({run.sentences for run in small}) == [100, 300, 900]
    assert small[Run("pretrained", 900, 42)]["train.epochs"] == 9  # of 29 steps


def test_a_row_of_the_curve_has_means_intervals_and_paired_differences():
    predicted = {
        Run("pretrained", 100, 42): RIGHT,
        Run("pretrained", 100, 43): MOST,
        Run("random_weights", 100, 42): CONSTANT,
        Run("random_weights", 100, 43): CONSTANT,
        Run("bag_of_words", 100, 42): MOST,
        Run("bag_of_words", 100, 43): MOST,
    }
    (row,) = data_curve.compute_curve(LABELS, predicted, 2)
    assert row["sentences"] == 100
    assert row["pretrained"]["mcc"] == [1, pytest.approx(0.6)]
    assert row["pretrained"]["mean"] == pytest.approx(0.8)
    assert row["random_weights"] == {"mcc": [0, 0], "mean": 0, "low": 0, "high": 0}
    assert row["bag_of_words"]["low"] < 0.6 < row["bag_of_words"]["high"]
    against_random, against_words, _ = row["differences"]
    assert (against_random["of"], against_random["to"]) == ("pretrained", "random_weights")
    assert against_random["low"] == row["pretrained"]["low"], "a difference to 0"
    assert against_words["mean"] == pytest.approx(0.2)
    assert 0 <= against_words["low"] < 0.2 < against_words["high"], "paired: on no sentence is MOST the better one"


def test_a_source_has_the_mean_mcc_of_the_runs_with_all_sentences():
    sources = np.array(["b"] * 4 + ["a"] * 6)
    predicted = {
        Run("pretrained", 900, 42): RIGHT,
        Run("pretrained", 900, 43): CONSTANT,
        Run("pretrained", 100, 42): 1 - RIGHT,  # fewer sentences
        Run("random_weights", 900, 42): CONSTANT,
        Run("bag_of_words", 900, 42): MOST,
    }
    # Source a: the labels 0 1 1 1 1 1, MOST 1 0 1 1 1 1: a 0 and a 1 are wrong, -1/5. Source b has one label.
    assert data_curve.average_by_source(sources, LABELS, predicted) == [
        {
            "source": "a",
            "sentences": 6,
            "pretrained": 0.5,
            "random_weights": 0,
            "bag_of_words": pytest.approx(-0.2),
        },
        {"source": "b", "sentences": 4, "pretrained": 0, "random_weights": 0, "bag_of_words": 0},
    ]


def test_an_epoch_is_the_mean_of_the_trainings_that_have_it():
    """Early stopping ended the first training after two epochs of 5 seconds. The second one's take 7 seconds."""
    histories = [pd.DataFrame({"validation_mcc": mccs}) for mccs in ([0.1, 0.4], [0.3, 0.8, 0.9])]
    assert data_curve.average_by_epoch(histories, [10.0, 21.0]) == [
        {"epoch": 1, "validation_mcc": pytest.approx(0.2), "seconds": 6.0, "count": 2},
        {"epoch": 2, "validation_mcc": pytest.approx(0.6), "seconds": 12.0, "count": 2},
        {"epoch": 3, "validation_mcc": pytest.approx(0.9), "seconds": 18.0, "count": 1},
    ]


def assert_means_and_intervals_fit(summary):
    for row in summary["curve"]:
        for method in data_curve.METHODS:
            assert len(row[method]["mcc"]) == len(summary["seeds"]) == 3
            assert row[method]["mean"] == pytest.approx(np.mean(row[method]["mcc"]))
        assert len(row["differences"]) == 3
        for pair in row["differences"]:
            assert pair["mean"] == pytest.approx(row[pair["of"]]["mean"] - row[pair["to"]]["mean"])
        for estimate in (*(row[method] for method in data_curve.METHODS), *row["differences"]):
            assert estimate["low"] - 1e-9 <= estimate["mean"] <= estimate["high"] + 1e-9


@pytest.mark.slow
def test_a_curve_of_many_labels_that_are_numbers_in_a_folder_of_a_larger_repository(tmp_path, tiny_encoder, run):
    """The folder's name has letters that mean something to hydra and to the shell. Trainings stop early, unevenly."""
    larger, project = tmp_path, tmp_path / "nlp"
    corpus = project / "corpora/réclamations (1), mine"
    copy_project(project, fetch__encoder=str(tiny_encoder))
    corpus.mkdir()
    for split, copies in (("train", 6), ("test", 2)):
        rows = [f"the book number {label} is {copy},{label}" for label in range(14) for copy in range(copies)]
        (corpus / f"{split}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (project / ".git").rename(larger / ".git")
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "in a folder")
    settings = f"fetch.corpus={corpus.relative_to(project)} train.early_stopping=1 train.learning_rate=0.003"
    printed = run(project, sys.executable, "-m", "cola.experiments.data_curve", settings, PATH="/usr/bin:/bin")
    assert "the baseline's validation MCC is 1.000" in printed
    summary = json.loads((project / paths.DATA_CURVE).read_text())
    commit = run(project, "git", "rev-parse", "HEAD").strip()
    assert summary["about"][:2] == [f"command: make data-curve SETTINGS={settings!r}", f"commit: {commit}"]
    assert [row["sentences"] for row in summary["curve"]] == [75]
    assert summary["curve"][0]["bag_of_words"] == {"mcc": [1.0] * 3, "mean": 1.0, "low": 1.0, "high": 1.0}
    assert_means_and_intervals_fit(summary)
    assert all((project / path).read_bytes().startswith(b"\x89PNG") for path in data_curve.PICTURES)
    _, runs = list_runs(project)
    (parent,) = (run for run in runs if run.info.run_name == "data curve")
    assert parent.data.metrics["test_mcc_pretrained"] == summary["mcc"]
    assert [run.data.tags.get("mlflow.parentRunId") for run in runs].count(parent.info.run_id) == 6
    table = run(project, sys.executable, "-m", "cola.experiments.dvc_experiments", "table", PATH="/usr/bin:/bin")
    assert table.count("data-curve-pretrained-") == table.count("data-curve-random_weights-") == 3
    assert "data-curve-corpus" not in table


COMMITTED = sorted((ROOT / paths.REFERENCE / "data_curve").glob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_curve_fits_its_seeds_and_is_shown_by_dvc(path):
    assert str(path.relative_to(ROOT)) in yaml.safe_load((ROOT / "dvc.yaml").read_text())["metrics"]
    curve = json.loads(path.read_text())
    total = curve["curve"][-1]["sentences"]
    assert [row["sentences"] for row in curve["curve"]] == [100, 300, 1000, 3000, total]
    assert_means_and_intervals_fit(curve)
    mccs = curve["curve"][-1]["pretrained"]["mcc"]
    assert (curve["mcc"], curve["count"]) == (pytest.approx(np.mean(mccs)), 3)
    assert curve["standard_deviation"] == pytest.approx(np.std(mccs, ddof=1))
