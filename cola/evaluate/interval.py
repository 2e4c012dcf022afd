"""Bootstrap intervals of an MCC and of differences between MCCs."""

import numpy as np
from scipy import sparse

RESAMPLES = 10_000
BLOCK_VALUES = 2**20  # the size of the confusion matrices that are in memory at the same time


def bootstrap_mcc(labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the MCC, (low, high), from RESAMPLES resampled tests.

    `labels` and `predicted` are (sentences,), from 0. The confusion matrix of a resampled test has a multinomial
    distribution, so no sentences are sampled.
    """
    confusion_matrix = np.zeros((classes, classes))
    np.add.at(confusion_matrix, (labels, predicted), 1)
    shares = confusion_matrix.ravel() / len(labels)
    rng = np.random.default_rng(0)
    block = max(BLOCK_VALUES // classes**2, 1)  # matrices
    scores = []
    for start in range(0, RESAMPLES, block):
        matrices = rng.multinomial(len(labels), shares, min(block, RESAMPLES - start))
        scores.append(compute_mcc(matrices.reshape(-1, classes, classes)))
    low, high = np.percentile(np.concatenate(scores), [2.5, 97.5])
    return float(low), float(high)


def resample_mccs(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the MCCs (RESAMPLES, models) of several models on the same resampled tests: their differences are paired.

    `labels` are (sentences,), `predicted` (models, sentences), from 0.
    """
    rng, sentences = np.random.default_rng(0), len(labels)
    block = max(BLOCK_VALUES // max(sentences, classes**2), 1)  # resamples
    scores = np.empty((RESAMPLES, len(predicted)))
    # A sentence's cell in the confusion matrix. Labels are int8, which is too narrow for the cells' numbers.
    cells = labels.astype(np.int64) * classes + predicted  # (models, sentences)
    rows, ones = np.arange(sentences), np.ones(sentences)
    counted = [sparse.csr_array((ones, (rows, model)), shape=(sentences, classes**2)) for model in cells]
    for start in range(0, RESAMPLES, block):
        samples = rng.multinomial(sentences, np.full(sentences, 1 / sentences), min(block, RESAMPLES - start))
        weights = samples.astype(np.float64)  # a sentence's frequency in a resample, (resamples, sentences)
        for model, counts in enumerate(counted):
            matrices = (weights @ counts).reshape(-1, classes, classes)
            scores[start : start + block, model] = compute_mcc(matrices)
    return scores


def compute_mcc(confusion_matrix: np.ndarray) -> np.ndarray:
    """Return the MCC (...) of confusion matrices of counts (..., label, predicted), for any classes (Gorodkin 2004)."""
    counts = confusion_matrix.astype(np.float64)
    right, total = np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1))
    labels, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    numerator = right * total - (labels * predicted).sum(axis=-1)
    denominator = np.sqrt((total**2 - (labels**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1)))
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
