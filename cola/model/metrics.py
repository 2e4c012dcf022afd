"""Scores and probabilities of predictions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


def compute_mcc(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Return the Matthews correlation coefficient, -1 to 1. It is 0 if all labels or all predictions are equal."""
    if len(set(labels)) == 1 or len(set(predicted)) == 1:
        return 0.0  # scikit-learn's value, without its warning for every small batch
    return float(matthews_corrcoef(labels, predicted))


def compute_scores(labels: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, float | int]:
    """Return the scores of all sentences: mcc, accuracy, macro_f1 (the mean over the classes) and sentences.

    Two classes have f1 and positives, too, for class 1: CoLA's acceptable sentences.
    """
    results: dict[str, float | int] = {
        "mcc": compute_mcc(labels, predicted),
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(f1_score(labels, predicted, labels=range(classes), average="macro", zero_division=0)),
        "sentences": len(labels),
    }
    if classes == 2:
        results |= {"f1": float(f1_score(labels, predicted, zero_division=0)), "positives": int(labels.sum())}
    return results


def compute_mcc_per_batch(labels: np.ndarray, predicted: np.ndarray, batch_size: int) -> pd.DataFrame:
    """Return the tutorial's bar chart: the MCC of each batch of sentences in file order (columns batch, mcc)."""
    batches = (slice(start, start + batch_size) for start in range(0, len(labels), batch_size))
    values = [compute_mcc(labels[rows], predicted[rows]) for rows in batches]
    return pd.DataFrame({"batch": range(len(values)), "mcc": values})


def tabulate_predictions(test: pd.DataFrame, logits: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Return a row per sentence: sentence_source, sentence, label, predicted, probability (of predicted), correct.

    `test` has the columns sentence_source, sentence and label. `logits` are (sentences, classes), in the same order.
    The columns label and predicted have the labels' `names`.
    """
    predicted = logits.argmax(axis=1)
    return pd.DataFrame(
        {
            "sentence_source": test["sentence_source"].to_list(),
            "sentence": test["sentence"].to_list(),
            "label": [names[label] for label in test["label"]],
            "predicted": [names[label] for label in predicted],
            "probability": compute_probabilities(logits).max(axis=1),
            "correct": predicted == test["label"].to_numpy(),
        }
    )


def compute_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of logits (sentences, classes) in float64. Every row sums to 1."""
    return np.asarray(softmax(logits.astype(np.float64), axis=1))
