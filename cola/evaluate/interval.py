"""Bootstrap intervals of an MCC and of differences between MCCs."""

import numpy as np
from scipy import sparse

RESAMPLES = 10_000
BLOCK_VALUES = 2**20  # the size of the counts that are in memory at the same time


def bootstrap_mcc(labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the MCC, (low, high), from RESAMPLES resampled tests.

    `labels` and `predicted` are (sentences,), from 0. The counts of a resampled test's pairs of labels have a
    multinomial distribution, so no sentences are sampled.
    """
    pairs, counts = np.unique(np.stack([labels, predicted], axis=1), axis=0, return_counts=True)
    shares = counts / len(labels)
    low, high = np.percentile(_resample(shares, len(labels), pairs[:, 0], pairs[None, :, 1], classes), [2.5, 97.5])
    return float(low), float(high)


def resample_mccs(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the MCCs (RESAMPLES, models) of several models on the same resampled tests: their differences are paired.

    `labels` are (sentences,), `predicted` (models, sentences), from 0.
    """
    count = len(labels)
    return _resample(np.full(count, 1 / count), count, labels, predicted, classes)


def _resample(shares: np.ndarray, count: int, labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the MCCs (RESAMPLES, models) of resampled tests of `count` sentences.

    A resampled sentence is item i with the probability shares[i]. The items have `labels` (items,) and `predicted`
    (models, items).
    """
    rng = np.random.default_rng(0)
    block = max(BLOCK_VALUES // max(len(shares), classes), 1)  # resamples
    scores = np.empty((RESAMPLES, len(predicted)))
    by_label, by_predicted = _one_hot(labels, classes), [_one_hot(model, classes) for model in predicted]
    for start in range(0, RESAMPLES, block):
        samples = rng.multinomial(count, shares, min(block, RESAMPLES - start))
        weights = samples.astype(np.float64)  # an item's frequency in a resample, (resamples, items)
        of_labels = weights @ by_label  # sentences, (resamples, classes)
        for model, counts in enumerate(by_predicted):
            right = weights @ (labels == predicted[model])
            scores[start : start + block, model] = _compute_mcc_of_counts(right, of_labels, weights @ counts)
    return scores


def _one_hot(numbers: np.ndarray, classes: int) -> sparse.csr_array:
    rows = np.arange(len(numbers))
    return sparse.csr_array((np.ones(len(numbers)), (rows, numbers)), shape=(len(numbers), classes))


def compute_mcc(confusion_matrix: np.ndarray) -> np.ndarray:
    """Return the MCC (...) of confusion matrices of counts (..., label, predicted), for any classes."""
    counts = confusion_matrix.astype(np.float64)
    return _compute_mcc_of_counts(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2))


def _compute_mcc_of_counts(right: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the MCC (...) (Gorodkin 2004) of numbers of sentences: right (...), by label and by predicted label.

    The latter two are (..., classes).
    """
    total = labels.sum(axis=-1)
    numerator = right * total - (labels * predicted).sum(axis=-1)
    denominator = np.sqrt((total**2 - (labels**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1)))
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
