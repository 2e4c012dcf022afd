"""How sure an MCC is: its bootstrap interval."""

import numpy as np

RESAMPLES = 10_000


def mcc_interval(labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[float, float]:
    """The 95% bootstrap interval of the MCC: of the test with its sentences drawn anew, with replacement.

    Sentences of one label and prediction are alike, so each draw is one of counts, (classes, classes), and no more.
    """
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, predicted), 1)
    total = len(labels)
    draws = np.random.default_rng(0).multinomial(total, counts.ravel() / total, RESAMPLES)
    low, high = np.percentile(mcc_of_confusion_matrix(draws.reshape(-1, classes, classes)), [2.5, 97.5])
    return float(low), float(high)


def mcc_of_confusion_matrix(counts: np.ndarray) -> np.ndarray:
    """The MCC of each table of counts (..., label, predicted), as Gorodkin (2004) has it for any number of classes."""
    counts = counts.astype(np.float64)
    right, total = np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1))
    labels, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    above = right * total - (labels * predicted).sum(axis=-1)
    below = (total**2 - (labels**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return np.divide(above, np.sqrt(below), out=np.zeros_like(above), where=below > 0)
