"""What pretraining is worth, by the number of training sentences: `python -m cola.experiments.data_curve SETTINGS`.

With 100, 300, 1,000, 3,000 and all training sentences, and three seeds each, it trains the pretrained encoder and the
same encoder with random weights, and beside them bag of words with logistic regression on the same sentences. Every
training is a DVC experiment of params.yaml with SETTINGS (train.learning_rate=5.0e-5, say); what ran before comes from
DVC's cache. Writes metrics/data_curve.json and three pictures of it, and gathers the runs under one parent in MLflow.
"""

import io
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cola.core import files, params, paths
from cola.core.errors import UserError, run
from cola.evaluate import analysis, interval
from cola.experiments import seeds
from cola.model import metrics
from cola.report import console, figures, mlflow_logger, revision
from cola.report.recipe import recipe

SIZES = (100, 300, 1000, 3000)  # sentences; and all of them
SEEDS = (42, 43, 44)
# Of a training at least: what fewer show is how few they are, not what the sentences are worth (Mosbach et al. 2021,
# arXiv:2006.04884; Zhang et al. 2021, arXiv:2006.05987).
STEPS = 250
ENCODERS = ("pretrained", "random_weights")
WAYS = (*ENCODERS, "bag_of_words")
DIFFERENCES = (("pretrained", "random_weights"), ("pretrained", "bag_of_words"), ("random_weights", "bag_of_words"))
PICTURES = {
    paths.DATA_CURVE_PICTURE: figures.data_curve,
    paths.DATA_CURVE_EPOCHS: figures.mcc_by_epoch,
    paths.DATA_CURVE_SOURCES: figures.mcc_of_ways_per_source,
}
_CORPUS = "data-curve-corpus"  # the experiment that says how many sentences there are


class Cell(NamedTuple):
    """One model of the curve."""

    way: str
    sentences: int
    seed: int


Predictions = Mapping[Cell, np.ndarray]  # (test sentences,) labels from 0


def epochs(sentences: int, recipe: params.Train) -> int:
    """The recipe's epochs, or as many as make STEPS steps, if those are more."""
    return max(recipe.epochs, math.ceil(STEPS / math.ceil(sentences / recipe.batch_size)))


def experiments(total: int, recipe: params.Train) -> dict[Cell, list[str]]:
    """The settings of the experiment that trains each cell of the curve, of `total` training sentences.

    What is the recipe's is not among them, so that DVC finds a training of it in its cache. They are in the order to
    run them: the longest first, so that those side by side end together, and one encoder after the other, so that the
    second finds the tokenized sentences in the cache.
    """

    def duration(sentences: int) -> float:  # in validation sentences: of training, each takes as long as three
        return epochs(sentences, recipe) * (3 * sentences + total / 9)

    found = {}
    sizes = sorted({*(size for size in SIZES if size < total), total}, key=duration, reverse=True)
    for way, sentences, seed in itertools.product(ENCODERS, sizes, SEEDS):
        settings = {
            "seed": seed,
            "tokenize.training_sentences": sentences if sentences < total else None,
            "train.pretrained": None if way == "pretrained" else "false",
            "train.epochs": count if (count := epochs(sentences, recipe)) != recipe.epochs else None,
        }
        found[Cell(way, sentences, seed)] = [f"{key}={value}" for key, value in settings.items() if value is not None]
    return found


def curve(labels: np.ndarray, predicted: Predictions, classes: int) -> list[dict[str, Any]]:
    """A row for each number of sentences: of each way the test MCC of each seed, their mean, and its 95% interval.

    `labels` are (test sentences,), from 0. An interval is over tests with sentences drawn anew, alike for all models;
    "differences" has those of the differences between the means of two ways.
    """
    cells = list(predicted)
    resampled = interval.resampled_mccs(labels, np.stack(list(predicted.values())), classes)  # (resamples, cells)
    rows = []
    for sentences in sorted({cell.sentences for cell in cells}):
        places = {way: [cells.index(cell) for cell in cells if cell[:2] == (way, sentences)] for way in WAYS}
        mccs = {way: [metrics.mcc(labels, predicted[cells[place]]) for place in places[way]] for way in WAYS}
        # of each way: the mean of its seeds, and that mean on each of the tests that are drawn, (resamples,)
        means = {way: (float(np.mean(mccs[way])), resampled[:, places[way]].mean(axis=1)) for way in WAYS}
        rows.append(
            {
                "sentences": sentences,
                **{way: {"mcc": mccs[way], **_estimate(*means[way])} for way in WAYS},
                "differences": [
                    {
                        "of": one,
                        "to": other,
                        **_estimate(*(a - b for a, b in zip(means[one], means[other], strict=True))),
                    }
                    for one, other in DIFFERENCES
                ],
            }
        )
    return rows


def _estimate(mean: float, resampled: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {"mean": mean, "low": float(low), "high": float(high)}


def by_source(sources: np.ndarray, labels: np.ndarray, predicted: Predictions) -> list[dict[str, Any]]:
    """A row for each of the test sentences' `sources`: how many, and the mean MCC of each way with all sentences."""
    total = max(cell.sentences for cell in predicted)
    rows = []
    for source in sorted(set(sources)):
        own = sources == source
        mccs = {
            way: [metrics.mcc(labels[own], found[own]) for cell, found in predicted.items() if cell[:2] == (way, total)]
            for way in WAYS
        }
        rows.append({"source": source, "sentences": int(own.sum()), **{way: float(np.mean(mccs[way])) for way in WAYS}})
    return rows


def by_epoch(histories: Sequence[pd.DataFrame], seconds: Sequence[float]) -> list[dict[str, float]]:
    """A row for each epoch of several trainings: their mean validation MCC, and the seconds of training until then.

    `seconds` are those of each training's epochs together, which take the same time each.
    """
    mccs = np.mean([history["validation_mcc"] for history in histories], axis=0)
    each = float(np.mean(seconds)) / len(mccs)
    return [{"epoch": n, "validation_mcc": float(mcc), "seconds": each * n} for n, mcc in enumerate(mccs, start=1)]


def main() -> None:
    settings = sys.argv[1:]
    if wrong := [setting for setting in settings if "=" not in setting]:
        raise UserError(f"{wrong[0]!r} is no setting: make data-curve SETTINGS=train.learning_rate=5.0e-5")
    commit = revision.commit()  # now: the trainings take hours, in which it may change
    total, chosen = _corpus(settings)
    cells = experiments(total, chosen.train)
    names = {cell: f"data-curve-{cell.way}-{cell.sentences}-{cell.seed}" for cell in cells}
    seeds.train({names[cell]: [*settings, *own] for cell, own in cells.items()}, ["evaluate"])
    about = [f"command: make data-curve SETTINGS={' '.join(settings)!r}", f"commit: {commit}"]
    summary = _summary(names, chosen, about)
    files.write_json(paths.DATA_CURVE, summary)
    for path, draw in PICTURES.items():
        figures.save(draw(summary), path)
    console.print_data_curve(summary)
    means = {f"test_mcc_{way}": {row["sentences"]: row[way]["mean"] for row in summary["curve"]} for way in WAYS}
    models = [seeds.model_digest(name) for name in names.values()]
    mlflow_logger.record("parent", "data curve", means, [paths.DATA_CURVE, *PICTURES], models)


def _corpus(settings: Sequence[str]) -> tuple[int, params.Params]:
    """The number of training sentences, and params.yaml with `settings`, of an experiment that ends with tokenize."""

    def remove() -> None:
        subprocess.run(["dvc", "exp", "remove", "--quiet", _CORPUS], capture_output=True, check=False)  # noqa: S607

    remove()  # what an interrupted run has left
    options = [option for setting in settings for option in ("--set-param", setting)]
    if subprocess.run(["dvc", "exp", "run", "--temp", "--name", _CORPUS, *options, "tokenize"], check=False).returncode:  # noqa: S607
        raise UserError("dvc exp run failed: see above")
    corpus = json.loads(seeds.read(paths.CORPUS_METRICS, _CORPUS))
    chosen = params.parse(seeds.read_bytes(paths.PARAMS, _CORPUS), paths.PARAMS)
    remove()
    return corpus["training_sentences"], chosen


def _summary(names: Mapping[Cell, str], chosen: params.Params, about: Sequence[str]) -> dict[str, Any]:
    """What metrics/data_curve.json has of the experiments of these names. DVC shows what is not in lists."""
    first = next(iter(names.values()))
    source, test = json.loads(seeds.read(paths.FINETUNED / "source.json", first)), _split("test", first)
    numbers = {name: number for number, name in enumerate(source["corpus"]["labels"])}
    total = max(cell.sentences for cell in names)
    predicted, words_alone = {}, []  # the validation MCCs of bag of words with all sentences
    for cell, name in names.items():
        table = _table(paths.PREDICTIONS, name)
        predicted[cell] = table["predicted"].map(numbers).to_numpy()
        if cell.way == "pretrained":
            train = _split("train", name)
            predicted[cell._replace(way="bag_of_words")] = analysis.bag_of_words(train, test)
            if cell.sentences == total:
                validation = _split("validation", name)
                found = analysis.bag_of_words(train, validation)
                words_alone.append(metrics.mcc(validation["label"].to_numpy(), found))
    labels = test["label"].to_numpy()
    rows = curve(labels, predicted, len(numbers))
    whole = {way: [name for cell, name in names.items() if cell[:2] == (way, total)] for way in ENCODERS}
    timings = {way: [json.loads(seeds.read(paths.TIMINGS, name)) for name in whole[way]] for way in ENCODERS}
    devices = dict.fromkeys(timing["device"] for way in ENCODERS for timing in timings[way])
    mccs = rows[-1]["pretrained"]["mcc"]
    return {
        "mcc": float(np.mean(mccs)),
        "standard_deviation": float(np.std(mccs, ddof=1)),
        "count": len(mccs),
        "about": [*about, *(f"device: {device}" for device in devices)],
        "recipe": [recipe(source, chosen)],
        "seeds": list(SEEDS),
        "curve": rows,
        "epochs": [
            {
                "way": way,
                "rows": by_epoch(
                    [_table(paths.HISTORY, name) for name in whole[way]],
                    [timing["training_seconds"] for timing in timings[way]],
                ),
            }
            for way in ENCODERS
        ],
        "bag_of_words_validation_mcc": words_alone,
        "sources": by_source(test["sentence_source"].to_numpy(), labels, predicted),
    }


def _split(name: str, experiment: str) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(seeds.read_bytes(paths.TOKENIZED / f"{name}.parquet", experiment)))


def _table(path: Path, experiment: str) -> pd.DataFrame:
    return files.read_csv(io.StringIO(seeds.read(path, experiment)))


if __name__ == "__main__":
    run(main)
