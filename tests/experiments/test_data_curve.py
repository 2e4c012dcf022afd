import json
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from project import ROOT, copy_of_the_project, list_runs

from cola.core import params, paths
from cola.experiments import data_curve
from cola.experiments.data_curve import Run

SETTINGS = params.load(ROOT / paths.PARAMS)
# Ten sentences, of which a model predicts all, eight (MCC 0.6) or five (0) right.
LABELS = np.array([0] * 5 + [1] * 5)
RIGHT = LABELS
MOST = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1])
ONE = np.ones(10, int)


@pytest.mark.parametrize(
    ("sentences", "epochs"),
    [(1, 250), (100, 63), (300, 25), (1000, 8), (2000, 4), (3000, 4), (7695, 4)],  # of 1, 4, 10, 32, 63, 94, 241 steps
)
def test_few_sentences_are_seen_as_often_as_makes_250_steps(sentences, epochs):
    assert data_curve.count_epochs(sentences, SETTINGS.train) == epochs


def test_the_experiments_are_every_seed_number_of_sentences_and_encoder_the_longest_first():
    changes = data_curve.plan_experiments(5400, SETTINGS.train)
    assert [run.method for run in changes] == ["pretrained"] * 15 + ["random_weights"] * 15
    # epochs by sentences, three for each of training: 4 * (16,200 + 600), 63 * 900, 4 * 9,600, 25 * 1,500, 8 * 3,600
    assert [run.sentences for run in changes][::3] == [5400, 100, 3000, 300, 1000] * 2
    assert [run.seed for run in changes] == [42, 43, 44] * 10
    assert changes[Run("pretrained", 5400, 42)] == {"seed": 42, "train.pretrained": True, "train.epochs": 4}
    few = {"tokenize.training_sentences": 100, "train.pretrained": False, "train.epochs": 63}
    assert changes[Run("random_weights", 100, 43)] == {"seed": 43, **few}
    small = data_curve.plan_experiments(900, SETTINGS.train)
    assert sorted({run.sentences for run in small}) == [100, 300, 900]
    assert small[Run("pretrained", 900, 42)]["train.epochs"] == 9  # of 29 steps


def test_a_row_of_the_curve_has_means_intervals_and_paired_differences():
    predicted = {
        Run("pretrained", 100, 42): RIGHT,
        Run("pretrained", 100, 43): MOST,
        Run("random_weights", 100, 42): ONE,
        Run("random_weights", 100, 43): ONE,
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


def test_each_source_has_the_mean_mcc_of_the_models_of_all_sentences():
    sources = np.array(["b"] * 4 + ["a"] * 6)
    predicted = {
        Run("pretrained", 900, 42): RIGHT,
        Run("pretrained", 900, 43): ONE,
        Run("pretrained", 100, 42): 1 - RIGHT,  # of fewer sentences
        Run("random_weights", 900, 42): ONE,
        Run("bag_of_words", 900, 42): MOST,
    }
    found = data_curve.average_by_source(sources, LABELS, predicted)
    # Of source a: labels 0 1 1 1 1 1, MOST 1 0 1 1 1 1: one of each is wrong, -1/5. Source b has one label alone.
    assert found == [
        {
            "source": "a",
            "sentences": 6,
            "pretrained": 0.5,
            "random_weights": 0,
            "bag_of_words": pytest.approx(-0.2),
        },
        {"source": "b", "sentences": 4, "pretrained": 0, "random_weights": 0, "bag_of_words": 0},
    ]


def test_an_epoch_has_the_mean_of_the_trainings_that_have_it_and_its_share_of_the_time():
    """Early stopping has ended one of them after two epochs. An epoch takes 5 and 7 seconds."""
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
            assert estimate["low"] <= estimate["mean"] + 1e-9
            assert estimate["mean"] <= estimate["high"] + 1e-9


@pytest.mark.slow
def test_a_curve_of_many_labels_that_are_numbers_in_a_folder_of_a_larger_repository(tmp_path, tiny_encoder, run):
    """The corpus's folder has what hydra and the shell would read otherwise; early stopping ends trainings unevenly."""
    larger, project = tmp_path, tmp_path / "nlp"
    corpus = project / "corpora/réclamations (1), mine"
    copy_of_the_project(project, fetch__encoder=str(tiny_encoder))
    corpus.mkdir()
    for split, copies in (("train", 6), ("test", 2)):
        rows = [f"the book number {label} is {copy},{label}" for label in range(14) for copy in range(copies)]
        (corpus / f"{split}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (project / ".git").rename(larger / ".git")
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "in a folder")
    settings = f"fetch.corpus={corpus.relative_to(project)} train.early_stopping=1 train.learning_rate=0.003"
    printed = run(project, sys.executable, "-m", "cola.experiments.data_curve", settings, PATH="/usr/bin:/bin")
    assert "the bag-of-words baseline has 1.000" in printed
    summary = json.loads((project / paths.DATA_CURVE).read_text())
    commit = run(project, "git", "rev-parse", "HEAD").strip()
    assert summary["about"][:2] == [f"command: make data-curve SETTINGS={settings!r}", f"commit: {commit}"]
    assert [row["sentences"] for row in summary["curve"]] == [75]
    assert summary["curve"][0]["bag_of_words"] == {"mcc": [1.0] * 3, "mean": 1.0, "low": 1.0, "high": 1.0}
    assert_means_and_intervals_fit(summary)
    assert all((project / path).read_bytes().startswith(b"\x89PNG") for path in data_curve.PICTURES)
    runs = list_runs(project)
    (parent,) = (run for run in runs if run.info.run_name == "data curve")
    assert parent.data.metrics["test_mcc_pretrained"] == summary["mcc"]
    assert [run.data.tags.get("mlflow.parentRunId") for run in runs].count(parent.info.run_id) == 6
    table = run(project, sys.executable, "-m", "cola.experiments.dvc_queue", "table", PATH="/usr/bin:/bin")
    assert table.count("data-curve-pretrained-") == table.count("data-curve-random_weights-") == 3
    assert "data-curve-corpus" not in table


COMMITTED = sorted((ROOT / paths.REFERENCE / "data_curve").glob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_what_is_committed_is_what_its_seeds_give_and_is_shown_by_dvc(path):
    assert str(path.relative_to(ROOT)) in yaml.safe_load((ROOT / "dvc.yaml").read_text())["metrics"]
    found = json.loads(path.read_text())
    total = found["curve"][-1]["sentences"]
    assert [row["sentences"] for row in found["curve"]] == [100, 300, 1000, 3000, total]
    assert_means_and_intervals_fit(found)
    mccs = found["curve"][-1]["pretrained"]["mcc"]
    assert (found["mcc"], found["count"]) == (pytest.approx(np.mean(mccs)), 3)
    assert found["standard_deviation"] == pytest.approx(np.std(mccs, ddof=1))
