"""The bootstrap interval of an MCC, and of differences between MCCs."""

import numpy as np
from scipy import sparse

RESAMPLES = 10_000
BLOCK_VALUES = 2**20  # of the confusion matrices that are in memory at once


def mcc_interval(labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, float]:
    """The 95% bootstrap interval of the MCC: (low, high), over RESAMPLES tests with sentences drawn with replacement.

    `labels` and `predicted` are (sentences,), from 0. The confusion matrix of such a test is a draw from a multinomial
    distribution, so no sentences are drawn.
    """
    confusion_matrix = np.zeros((classes, classes))
    np.add.at(confusion_matrix, (labels, predicted), 1)
    shares = confusion_matrix.ravel() / len(labels)
    rng = np.random.default_rng(0)
    block = max(BLOCK_VALUES // classes**2, 1)  # matrices
    scores = []
    for start in range(0, RESAMPLES, block):
        drawn = rng.multinomial(len(labels), shares, min(block, RESAMPLES - start))
        scores.append(mcc_of_confusion_matrix(drawn.reshape(-1, classes, classes)))
    low, high = np.percentile(np.concatenate(scores), [2.5, 97.5])
    return float(low), float(high)


def resampled_mccs(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """The MCCs (RESAMPLES, models) of several models on the same RESAMPLES tests, which makes their differences paired.

    The tests have the sentences drawn with replacement. `labels` are (sentences,), `predicted` (models, sentences),
    from 0.
    """
    rng, sentences = np.random.default_rng(0), len(labels)
    block = max(BLOCK_VALUES // max(sentences, classes**2), 1)  # resamples
    scores = np.empty((RESAMPLES, len(predicted)))
    # The cell of the confusion matrix that a sentence is counted in; its number is too large for int8, as labels are.
    cells = labels.astype(np.int64) * classes + predicted  # (models, sentences)
    rows, ones = np.arange(sentences), np.ones(sentences)
    counted = [sparse.csr_array((ones, (rows, model)), shape=(sentences, classes**2)) for model in cells]
    for start in range(0, RESAMPLES, block):
        drawn = rng.multinomial(sentences, np.full(sentences, 1 / sentences), min(block, RESAMPLES - start))
        weights = drawn.astype(np.float64)  # (resamples, sentences): how often each was drawn
        for model, counts in enumerate(counted):
            matrices = (weights @ counts).reshape(-1, classes, classes)
            scores[start : start + block, model] = mcc_of_confusion_matrix(matrices)
    return scores


def mcc_of_confusion_matrix(confusion_matrix: np.ndarray) -> np.ndarray:
    """The MCC of confusion matrices (..., label, predicted) of counts, of any number of classes, as Gorodkin (2004)."""
    counts = confusion_matrix.astype(np.float64)
    right, total = np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1))
    labels, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    numerator = right * total - (labels * predicted).sum(axis=-1)
    # The denominator, squared.
    squared = (total**2 - (labels**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return np.divide(numerator, np.sqrt(squared), out=np.zeros_like(numerator), where=squared > 0)
