"""How far a probability can be trusted, and from which one on to say yes."""

import numpy as np
import pandas as pd

from cola.evaluate import interval

BINS = 10  # of confidence, from 0 to 1


def calibration_table(probabilities: np.ndarray, labels: np.ndarray) -> tuple[pd.DataFrame, float]:
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
    scores = interval.mcc_of_confusion_matrix(counts)
    best = thresholds[scores == scores.max()]
    return float(best[np.abs(best - 0.5).argmin()])
