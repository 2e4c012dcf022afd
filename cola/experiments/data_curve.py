"""The value of pretraining, by the number of training sentences: `python -m cola.experiments.data_curve SETTINGS`.

The pretrained encoder, the same encoder with random weights and a bag-of-words baseline are trained with 100, 300,
1,000, 3,000 and all training sentences, with three seeds. A training is a DVC experiment of params.yaml with SETTINGS
(train.learning_rate=5.0e-5, for example). Writes metrics/data_curve.json and three pictures, and one parent run in
MLflow.
"""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.report_import_errors()

import io
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cola.core import errors, files, params, paths
from cola.evaluate import analysis, interval
from cola.experiments import dvc_experiments
from cola.experiments.overrides import Settings, apply_settings, name_experiment, parse_settings
from cola.model import metrics
from cola.report import console, figures, mlflow_logger, revision
from cola.report.references import describe_recipe

SIZES = (100, 300, 1000, 3000)  # training sentences; all of them are another size
SEEDS = (42, 43, 44)
# Minimum steps per run; with fewer, scores show undertraining, not the value of the data (Mosbach et al. 2021,
# arXiv:2006.04884; Zhang et al. 2021, arXiv:2006.05987).
STEPS = 250
ENCODERS = ("pretrained", "random_weights")
METHODS = (*ENCODERS, "bag_of_words")
DIFFERENCES = (("pretrained", "random_weights"), ("pretrained", "bag_of_words"), ("random_weights", "bag_of_words"))
PICTURES = {
    paths.DATA_CURVE_PICTURE: figures.draw_data_curve,
    paths.DATA_CURVE_EPOCHS: figures.draw_mcc_by_epoch,
    paths.DATA_CURVE_SOURCES: figures.draw_mcc_by_source,
}
CORPUS = "data-curve-corpus"  # the experiment that counts the training sentences


class Run(NamedTuple):
    """A training of an encoder, or of the bag-of-words baseline."""

    method: str
    sentences: int
    seed: int


Predictions = Mapping[Run, np.ndarray]  # each run's predicted labels, from 0: (test sentences,)


def count_epochs(sentences: int, recipe: params.Train) -> int:
    """The recipe's epochs, or as many as make STEPS steps, if those are more."""
    return max(recipe.epochs, math.ceil(STEPS / math.ceil(sentences / recipe.batch_size)))


def plan_experiments(total: int, recipe: params.Train) -> dict[Run, dict[str, Any]]:
    """The settings of the experiment that trains each run of an encoder, with up to `total` training sentences.

    The longest run first, so that runs side by side end together. One encoder after the other: the second one's
    tokenized sentences come from DVC's cache.
    """

    def estimate_cost(sentences: int) -> float:  # in validation sentences; a training sentence costs three
        return count_epochs(sentences, recipe) * (3 * sentences + total / 9)

    settings = {}
    sizes = sorted({*(size for size in SIZES if size < total), total}, key=estimate_cost, reverse=True)
    for method, sentences, seed in itertools.product(ENCODERS, sizes, SEEDS):
        epochs = count_epochs(sentences, recipe)
        changes = {"seed": seed, "train.pretrained": method == "pretrained", "train.epochs": epochs}
        if sentences < total:  # with all of them, the recipe's own training may be in DVC's cache
            changes["tokenize.training_sentences"] = sentences
        settings[Run(method, sentences, seed)] = changes
    return settings


def compute_curve(labels: np.ndarray, predictions: Predictions, classes: int) -> list[dict[str, Any]]:
    """A row for each number of sentences: each method's test MCCs by seed, their mean, and its 95% interval.

    `labels` are (test sentences,), from 0. "differences" has the same of the differences between two methods' means.
    The intervals are over resamplings of the test sentences, which all methods share.
    """
    runs, predicted = list(predictions), np.stack(list(predictions.values()))  # (runs, test sentences)
    measured = np.array([metrics.compute_mcc(labels, row) for row in predicted])
    # Row 0: the MCCs of the test sentences; then a row for each resampling. (1 + resamplings, runs)
    scores = np.vstack([measured, interval.resample_mccs(labels, predicted, classes)])
    rows = []
    for sentences in sorted({run.sentences for run in runs}):
        columns = {method: [runs.index(run) for run in runs if run[:2] == (method, sentences)] for method in METHODS}
        means = {method: scores[:, columns[method]].mean(axis=1) for method in METHODS}
        estimates = {
            method: {"mcc": measured[columns[method]].tolist(), **_estimate(means[method])} for method in METHODS
        }
        differences = [
            {"of": first, "to": second, **_estimate(means[first] - means[second])} for first, second in DIFFERENCES
        ]
        rows.append({"sentences": sentences, **estimates, "differences": differences})
    return rows


def _estimate(scores: np.ndarray) -> dict[str, float]:
    """A score and its 95% interval, from the score (first) and its values on resamplings (the others)."""
    low, high = np.percentile(scores[1:], [2.5, 97.5])
    return {"mean": float(scores[0]), "low": float(low), "high": float(high)}


def average_by_source(sources: np.ndarray, labels: np.ndarray, predictions: Predictions) -> list[dict[str, Any]]:
    """A row for each of the test sentences' `sources`: their number, and each method's mean MCC with all sentences."""
    total = max(run.sentences for run in predictions)
    rows = []
    for source in sorted(set(sources)):
        chosen = sources == source
        row = {"source": source, "sentences": int(chosen.sum())}
        for method in METHODS:
            predicted = [predictions[run] for run in predictions if run[:2] == (method, total)]
            row[method] = float(np.mean([metrics.compute_mcc(labels[chosen], values[chosen]) for values in predicted]))
        rows.append(row)
    return rows


def average_by_epoch(histories: Sequence[pd.DataFrame], seconds: Sequence[float]) -> list[dict[str, float]]:
    """A row for each epoch of several trainings: mean validation MCC, mean seconds until its end, and their "count".

    `seconds` is the time of each training. Early stopping may end some earlier: only the others count then.
    """
    mccs = pd.concat([history["validation_mcc"] for history in histories], axis=1)  # (epochs, trainings)
    seconds_per_epoch = float(np.mean(np.array(seconds) / mccs.count()))
    return [
        {"epoch": epoch, "validation_mcc": float(mcc), "seconds": seconds_per_epoch * epoch, "count": int(count)}
        for epoch, (mcc, count) in enumerate(zip(mccs.mean(axis=1), mccs.count(axis=1), strict=True), start=1)
    ]


def main() -> None:
    typed = " ".join(sys.argv[1:])
    settings = parse_settings(typed)
    recipe = apply_settings(settings)
    changes = plan_experiments(_count_sentences(settings), recipe.train)
    commit = revision.describe_commit()  # now: the commit may change during the hours of training
    names = {run: name_experiment(settings, f"data-curve-{'-'.join(map(str, run))}") for run in changes}
    commits = dvc_experiments.run_experiments(
        {names[run]: {**settings, **changes[run]} for run in changes}, ["evaluate"]
    )
    about = [f"command: make data-curve SETTINGS={typed!r}", f"commit: {commit}"]
    source = revision.read_source(commits)
    summary = _summarize({run: commits[name] for run, name in names.items()}, source, recipe, about)
    files.write_json(paths.DATA_CURVE, summary)
    for path, draw in PICTURES.items():
        figures.save(draw(summary), path)
    console.print_data_curve(summary)
    means = {f"test_mcc_{name}": {row["sentences"]: row[name]["mean"] for row in summary["curve"]} for name in METHODS}
    models = [revision.read_model_digest(commit) for commit in commits.values()]
    mlflow_logger.record("parent", "data curve", means, [paths.DATA_CURVE, *PICTURES], models)


def _count_sentences(settings: Settings) -> int:
    """The number of training sentences, from an experiment that ends with tokenize."""
    commit = dvc_experiments.run_here({CORPUS: settings}, ["tokenize"])[CORPUS]
    corpus = json.loads(revision.read(paths.CORPUS_METRICS, commit))
    revision.remove_experiment(CORPUS, revision.read_commit())
    return int(corpus["training_sentences"])


def _summarize(
    commits: Mapping[Run, str], source: Mapping[str, Any], recipe: params.Params, about: Sequence[str]
) -> dict[str, Any]:
    """Contents of metrics/data_curve.json, from the experiments' commits. DVC shows the numbers that are in no list."""
    test = _read_split("test", next(iter(commits.values())))
    labels, classes = test["label"].to_numpy(), source["corpus"]["labels"]
    predictions = _read_predictions(commits, test, classes)
    curve = compute_curve(labels, predictions, len(classes))
    mccs, total = curve[-1]["pretrained"]["mcc"], curve[-1]["sentences"]
    epochs: list[dict[str, Any]] = []
    devices: list[str] = []
    for method in ENCODERS:
        whole = [commit for run, commit in commits.items() if run[:2] == (method, total)]
        timings = [json.loads(revision.read(paths.TIMINGS, commit)) for commit in whole]
        histories = [_read_table(paths.HISTORY, commit) for commit in whole]
        rows = average_by_epoch(histories, [timing["training_seconds"] for timing in timings])
        epochs.append({"way": method, "rows": rows})
        devices += [timing["device"] for timing in timings]
    return {
        "mcc": float(np.mean(mccs)),
        "standard_deviation": float(np.std(mccs, ddof=1)),
        "count": len(mccs),
        "about": [*about, *(f"device: {device}" for device in dict.fromkeys(devices))],
        "recipe": [describe_recipe(source, recipe)],
        "seeds": list(SEEDS),
        "curve": curve,
        "epochs": epochs,
        "bag_of_words_validation_mcc": [_validate_baseline(commits[Run("pretrained", total, seed)]) for seed in SEEDS],
        "sources": average_by_source(test["sentence_source"].to_numpy(), labels, predictions),
    }


def _read_predictions(commits: Mapping[Run, str], test: pd.DataFrame, classes: Sequence[str]) -> Predictions:
    """The predictions of these experiments, and of the bag-of-words baseline with their training sentences."""
    numbers = {name: number for number, name in enumerate(classes)}
    predictions = {}
    for run, commit in commits.items():
        predictions[run] = _read_table(paths.PREDICTIONS, commit)["predicted"].map(numbers).to_numpy()
        if run.method == "pretrained":
            baseline = run._replace(method="bag_of_words")
            predictions[baseline] = analysis.predict_bag_of_words(_read_split("train", commit), test)
    return predictions


def _validate_baseline(commit: str) -> float:
    """The bag-of-words baseline's validation MCC, with an experiment's sentences."""
    train, validation = _read_split("train", commit), _read_split("validation", commit)
    return metrics.compute_mcc(validation["label"].to_numpy(), analysis.predict_bag_of_words(train, validation))


def _read_split(name: str, commit: str) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(revision.read_bytes(paths.TOKENIZED / f"{name}.parquet", commit)))


def _read_table(path: Path, commit: str) -> pd.DataFrame:
    return files.read_csv(io.StringIO(revision.read(path, commit)))


if __name__ == "__main__":
    errors.run(main)
