"""The calibration of the probabilities, and the best threshold for class 1."""

import numpy as np
import pandas as pd

from cola.evaluate import interval

BINS = 10  # they have equal width, from confidence 0 to 1


def measure_calibration(probabilities: np.ndarray, labels: np.ndarray) -> tuple[pd.DataFrame, float]:
    """Return a reliability table and the expected calibration error (Guo et al. 2017): mean |confidence - accuracy|.

    `probabilities` are (sentences, classes), `labels` (sentences,). The table has a row per bin of confidence that is
    not empty: sentences, confidence (the mean probability of the predicted class), accuracy.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    table = pd.DataFrame({"confidence": confidence, "accuracy": correct, "sentences": 1})
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    table = table.groupby(bins).agg({"sentences": "sum", "confidence": "mean", "accuracy": "mean"})
    error = (table["sentences"] * (table["confidence"] - table["accuracy"]).abs()).sum() / len(labels)
    return table.reset_index(drop=True), float(error)


def find_best_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the threshold on the probability of class 1 with the best MCC; among equals, the nearest to 0.5.

    Class 1 is predicted where its probability is at least the threshold. `probabilities` (sentences,) are of class 1;
    `labels` (sentences,) are 0 or 1.
    """
    order = np.argsort(probabilities)
    probabilities, labels = probabilities[order], labels[order]
    values, first = np.unique(probabilities, return_index=True)
    # The middle of two values, rounded up: at the lower value, the threshold would include its sentences.
    between = np.maximum((values[1:] + values[:-1]) / 2, np.nextafter(values[:-1], 1))
    thresholds = np.concatenate([between, [0.5, 0]])
    below = np.concatenate([first[1:], [np.searchsorted(probabilities, 0.5), 0]])  # sentences, (thresholds,)
    predicted_0 = np.stack([np.append(0, np.cumsum(labels == label))[below] for label in (0, 1)], axis=-1)
    predicted_1 = np.bincount(labels, minlength=2) - predicted_0
    confusion_matrices = np.stack([predicted_0, predicted_1], axis=-1)  # (thresholds, label, predicted)
    scores = interval.compute_mcc(confusion_matrices)
    best = thresholds[scores == scores.max()]
    return float(best[np.abs(best - 0.5).argmin()])
