"""What stands behind the one number of a test: how sure it is, where the mistakes are, and what is had without BERT."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from cola import scoring
from cola.sources import PUBLICATIONS

RESAMPLES = 10_000
WORD = r"\w+|[^\w\s]"  # or a mark of punctuation
BINS = 10  # of confidence, from 0 to 1


def interval(labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, float]:
    """The 95% bootstrap interval of the MCC: of the test with its sentences drawn anew, with replacement.

    Sentences of one label and prediction are alike, so each draw is one of counts, (classes, classes), and no more.
    """
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, predicted), 1)
    total = len(labels)
    draws = np.random.default_rng(0).multinomial(total, counts.ravel() / total, RESAMPLES)
    low, high = np.percentile(mcc_of_counts(draws.reshape(-1, classes, classes)), [2.5, 97.5])
    return float(low), float(high)


def mcc_of_counts(counts: np.ndarray) -> np.ndarray:
    """The MCC of each table of counts (..., label, predicted), as Gorodkin (2004) has it for any number of classes."""
    counts = counts.astype(np.float64)
    right, total = np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1))
    labels, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    above = right * total - (labels * predicted).sum(axis=-1)
    below = (total**2 - (labels**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return np.divide(above, np.sqrt(below), out=np.zeros_like(above), where=below > 0)


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> tuple[pd.DataFrame, float]:
    """How often the model is right, by how sure it is: a row for each bin that has sentences; and the expected
    calibration error, the mean distance of the two (Guo et al. 2017, 10 bins of equal width).

    Columns: sentences, confidence (their mean probability of what was predicted), accuracy.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    table = pd.DataFrame({"confidence": confidence, "accuracy": right, "sentences": 1})
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    table = table.groupby(bins).agg({"sentences": "sum", "confidence": "mean", "accuracy": "mean"})
    error = (table["sentences"] * (table["confidence"] - table["accuracy"]).abs()).sum() / len(labels)
    return table.reset_index(drop=True), float(error)


def best_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The probability of class 1 from which on predicting it gives the best MCC; of several, the one nearest to 0.5.

    `probabilities` (sentences,) are of class 1; `labels` (sentences,) are 0 or 1.
    """
    order = np.argsort(probabilities)
    probabilities, labels = probabilities[order], labels[order]
    values, first = np.unique(probabilities, return_index=True)
    between = np.maximum((values[1:] + values[:-1]) / 2, np.nextafter(values[:-1], 1))  # never the lower, rounded to
    thresholds = np.concatenate([between, [0.5, 0]])
    below = np.concatenate([first[1:], [np.searchsorted(probabilities, 0.5), 0]])  # sentences below each threshold
    zeros = np.stack([np.append(0, np.cumsum(labels == label))[below] for label in (0, 1)], axis=-1)
    ones = np.bincount(labels, minlength=2) - zeros
    counts = np.stack([zeros, ones], axis=-1)  # (thresholds, label, predicted)
    scores = mcc_of_counts(counts)
    best = thresholds[scores == scores.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def baselines(training: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Test scores of what needs no encoder: the most frequent label; logistic regression on words and their pairs."""
    labels = test["label"].to_numpy()
    words = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD), LogisticRegression(C=10, max_iter=1000)
    )
    words.fit(training["sentence"], training["label"])
    predicted = words.predict(test["sentence"])
    return {
        "majority_accuracy": float((labels == training["label"].mode()[0]).mean()),
        "bag_of_words_accuracy": float((labels == predicted).mean()),
        "bag_of_words_mcc": scoring.mcc(labels, predicted),
    }


def per_source(test: pd.DataFrame, predicted: np.ndarray) -> pd.DataFrame:
    """A row per source of sentences: source, publication (of CoLA's), sentences, accuracy, mcc."""
    rows = []
    for source, table in test.assign(predicted=predicted).groupby("sentence_source"):
        labels, guesses = table["label"].to_numpy(), table["predicted"].to_numpy()
        publication = PUBLICATIONS.get(source, "")
        rows.append((source, publication, len(table), float((labels == guesses).mean()), scoring.mcc(labels, guesses)))
    return pd.DataFrame(rows, columns=["source", "publication", "sentences", "accuracy", "mcc"])


def mistakes(predictions: pd.DataFrame, count: int) -> pd.DataFrame:
    """The wrong ones of scoring.predictions, the surest first."""
    wrong = predictions[predictions["predicted"] != predictions["label"]]
    return wrong.sort_values("probability", ascending=False, kind="stable").head(count)


def analyse(
    tables: Mapping[str, pd.DataFrame], logits: np.ndarray, validation_logits: np.ndarray
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """All of the above, of the tables train (or some of it), validation and test: (figures, per_source, calibration).

    The logits are (sentences, classes), of test and of validation. With two classes the figures have the threshold that
    is best on the validation sentences, and the test MCC that it gives.
    """
    test, labels = tables["test"], tables["test"]["label"].to_numpy()
    predicted, probabilities = logits.argmax(axis=1), scoring.probabilities(logits)
    low, high = interval(labels, predicted, logits.shape[1])
    reliability, error = calibration(probabilities, labels)
    figures = {"mcc_low": low, "mcc_high": high, "calibration_error": error, **baselines(tables["train"], test)}
    if logits.shape[1] == 2:
        validation = scoring.probabilities(validation_logits)[:, 1]
        threshold = best_threshold(validation, tables["validation"]["label"].to_numpy())
        figures["threshold"] = threshold
        figures["threshold_mcc"] = scoring.mcc(labels, (probabilities[:, 1] >= threshold).astype(int))
    return figures, per_source(test, predicted), reliability
