"""How far the probabilities can be trusted, and the threshold from which class 1 is best predicted."""

import numpy as np
import pandas as pd

from cola.evaluate import interval

BINS = 10  # of equal width, of confidences from 0 to 1


def calibration_table(probabilities: np.ndarray, labels: np.ndarray) -> tuple[pd.DataFrame, float]:
    """A reliability table, and the expected calibration error (Guo et al. 2017): the mean |confidence - accuracy|.

    `probabilities` are (sentences, classes), `labels` (sentences,). The table has a row for each bin of confidence with
    sentences in it: sentences, confidence (their mean probability of the predicted class), accuracy.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    table = pd.DataFrame({"confidence": confidence, "accuracy": correct, "sentences": 1})
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    table = table.groupby(bins).agg({"sentences": "sum", "confidence": "mean", "accuracy": "mean"})
    error = (table["sentences"] * (table["confidence"] - table["accuracy"]).abs()).sum() / len(labels)
    return table.reset_index(drop=True), float(error)


def best_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The threshold on the probability of class 1 with the best MCC; of several, the one nearest to 0.5.

    Class 1 is predicted where its probability is at least the threshold. `probabilities` (sentences,) are of class 1;
    `labels` (sentences,) are 0 or 1.
    """
    order = np.argsort(probabilities)
    probabilities, labels = probabilities[order], labels[order]
    values, first = np.unique(probabilities, return_index=True)
    between = np.maximum((values[1:] + values[:-1]) / 2, np.nextafter(values[:-1], 1))  # above the lower, if rounded
    thresholds = np.concatenate([between, [0.5, 0]])
    below = np.concatenate([first[1:], [np.searchsorted(probabilities, 0.5), 0]])  # (thresholds,) sentences below it
    predicted_0 = np.stack([np.append(0, np.cumsum(labels == label))[below] for label in (0, 1)], axis=-1)
    predicted_1 = np.bincount(labels, minlength=2) - predicted_0
    confusion_matrices = np.stack([predicted_0, predicted_1], axis=-1)  # (thresholds, label, predicted)
    scores = interval.mcc_of_confusion_matrix(confusion_matrices)
    best = thresholds[scores == scores.max()]
    return float(best[np.abs(best - 0.5).argmin()])
