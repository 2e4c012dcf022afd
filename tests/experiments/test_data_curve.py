import io
import json
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from project import ROOT, copy_of_the_project
from results import HISTORY, SOURCE

from cola.core import params, paths
from cola.experiments import data_curve
from cola.experiments.data_curve import Run
from cola.report import mlflow_logger

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
    assert data_curve.epochs(sentences, SETTINGS.train) == epochs


def test_the_experiments_are_every_seed_number_of_sentences_and_encoder_the_longest_first():
    changes = data_curve.experiments(5400, SETTINGS.train)
    assert [run.method for run in changes] == ["pretrained"] * 15 + ["random_weights"] * 15
    # epochs by sentences, three for each of training: 4 * (16,200 + 600), 63 * 900, 4 * 9,600, 25 * 1,500, 8 * 3,600
    assert [run.sentences for run in changes][::3] == [5400, 100, 3000, 300, 1000] * 2
    assert [run.seed for run in changes] == [42, 43, 44] * 10
    assert changes[Run("pretrained", 5400, 42)] == {"seed": 42, "train.pretrained": True, "train.epochs": 4}
    few = {"tokenize.training_sentences": 100, "train.pretrained": False, "train.epochs": 63}
    assert changes[Run("random_weights", 100, 43)] == {"seed": 43, **few}
    small = data_curve.experiments(900, SETTINGS.train)
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
    (row,) = data_curve.curve(LABELS, predicted, 2)
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
    found = data_curve.by_source(sources, LABELS, predicted)
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
    assert data_curve.by_epoch(histories, [10.0, 21.0]) == [
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


def parquet(labels, texts):
    file = io.BytesIO()
    labels = np.array(labels, dtype=np.int8)  # as in data/tokenized
    pd.DataFrame({"sentence_source": "here", "label": labels, "sentence": texts}).to_parquet(file)
    return file.getvalue()


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A folder in which all experiments of a corpus of 200 sentences have run; the settings of each, by name."""
    started = {}
    test = parquet(LABELS, [("bad" if label == 0 else "good") + f" word{n}" for n, label in enumerate(LABELS)])
    source = SOURCE | {"corpus": SOURCE["corpus"] | {"labels": ["unacceptable", "acceptable"]}}
    names = np.array(["unacceptable", "acceptable"])

    def read(path, experiment):
        random = "random_weights" in experiment
        texts = {
            paths.CORPUS_METRICS: json.dumps({"training_sentences": 200}),
            paths.FINETUNED / "source.json": json.dumps(source),
            paths.FINETUNED / "SHA256SUMS": f"{experiment}  model.safetensors\n",
            paths.PREDICTIONS: pd.DataFrame({"predicted": names[ONE if random else RIGHT]}).to_csv(index=False),
            paths.HISTORY: HISTORY.assign(validation_mcc=0.0 if random else 0.9).to_csv(index=False),
            paths.TIMINGS: json.dumps({"training_seconds": 3.0, "device": "two threads" if random else "one thread"}),
        }
        tables = {
            "train.parquet": parquet([0, 1] * 5, ["bad", "good"] * 5),
            "validation.parquet": parquet([0, 1, 0, 1], ["bad", "good", "good", "good"]),  # the baseline: 3 of 4 right
            "test.parquet": test,
        }
        return tables[path.name] if path.name in tables else texts[path].encode()

    def train(experiments, last_stages):
        assert last_stages == ["evaluate"], "five sample predictions of each are of no use"
        started.update(experiments)
        return {name: name for name in experiments}  # which are read as commits are

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / paths.PARAMS, tmp_path)
    for name, function in (("run_now", lambda *_: data_curve.CORPUS), ("remove", lambda _: None), ("train", train)):
        monkeypatch.setattr(data_curve.dvc_queue, name, function)
    monkeypatch.setattr(data_curve.revision, "read_bytes", read)
    monkeypatch.setattr(data_curve.revision, "describe_commit", lambda: "c0ffee")
    return started


def test_what_was_trained_is_summed_up_in_files_and_on_the_terminal(trained, monkeypatch, capsys):
    recorded = []
    monkeypatch.setattr(mlflow_logger, "record", lambda *arguments: recorded.append(arguments))
    monkeypatch.setattr(sys, "argv", ["data_curve", "train.learning_rate=5e-5"])
    data_curve.main()
    assert len(trained) == 12
    pretrained = {"train.learning_rate": 5e-05, "seed": 42, "train.pretrained": True, "train.epochs": 36}
    assert pretrained in trained.values()
    assert [
        name for name in trained if not re.fullmatch(r"data-curve-(pretrained|random_weights)-\d00-4\d-.*", name)
    ] == []
    summary = json.loads(paths.DATA_CURVE.read_text())
    assert (summary["mcc"], summary["standard_deviation"], summary["count"]) == (1, 0, 3)
    assert summary["about"] == [
        "command: make data-curve SETTINGS='train.learning_rate=5e-5'",
        "commit: c0ffee",
        "device: one thread",
        "device: two threads",
    ]
    assert [row["sentences"] for row in summary["curve"]] == [100, 200]
    assert [summary["curve"][1][method]["mean"] for method in data_curve.METHODS] == [1, 0, 1]
    assert summary["sources"] == [
        {"source": "here", "sentences": 10, "pretrained": 1, "random_weights": 0, "bag_of_words": 1}
    ]
    # labels 0 1 0 1, the baseline 0 1 1 1: 1 / sqrt(3)
    assert summary["bag_of_words_validation_mcc"] == pytest.approx([3**-0.5] * 3)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in data_curve.PICTURES)
    ((kind, name, means, written, models),) = recorded
    assert (kind, name, models) == ("parent", "data curve", list(trained))
    assert means == {
        "test_mcc_pretrained": {100: 1, 200: 1},
        "test_mcc_random_weights": {100: 0, 200: 0},
        "test_mcc_bag_of_words": {100: 1, 200: 1},
    }
    assert written == [paths.DATA_CURVE, *data_curve.PICTURES]
    printed = capsys.readouterr().out
    assert "the bag-of-words baseline has 0.577" in printed
    assert "pretrained: better after epoch 1, 3.0 s; 0.900 after epoch 1, 3.0 s\n" in printed
    assert "random weights: not better; 0.000 after epoch 1, 3.0 s\n" in printed


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
    run(project, sys.executable, "-m", "cola.experiments.data_curve", settings, PATH="/usr/bin:/bin")
    summary = json.loads((project / paths.DATA_CURVE).read_text())
    assert len(summary["curve"]) == 1
    assert_means_and_intervals_fit(summary)
    table = run(project, sys.executable, "-m", "cola.experiments.dvc_queue", "table", PATH="/usr/bin:/bin")
    assert table.count("data-curve-pretrained-") == table.count("data-curve-random_weights-") == 3


COMMITTED = sorted((ROOT / paths.REFERENCE / "data_curve").glob("*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_what_is_committed_is_what_its_seeds_give(path):
    found = json.loads(path.read_text())
    total = found["curve"][-1]["sentences"]
    assert [row["sentences"] for row in found["curve"]] == [100, 300, 1000, 3000, total]
    assert_means_and_intervals_fit(found)
    mccs = found["curve"][-1]["pretrained"]["mcc"]
    assert (found["mcc"], found["count"]) == (pytest.approx(np.mean(mccs)), 3)
    assert found["standard_deviation"] == pytest.approx(np.std(mccs, ddof=1))


def test_what_is_committed_is_shown_by_dvc():
    shown = yaml.safe_load((ROOT / "dvc.yaml").read_text())["metrics"]
    assert {str(path.relative_to(ROOT)) for path in COMMITTED} <= set(shown)
    assert len(COMMITTED) >= 2
