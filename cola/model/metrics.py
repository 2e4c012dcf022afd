"""How good predictions are, in NumPy and scikit-learn."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


def mcc(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Matthews correlation coefficient, -1 to 1; 0 where labels or predictions know one class only."""
    if len(set(labels)) == 1 or len(set(predicted)) == 1:
        return 0.0  # scikit-learn's value too, but with a warning for each small batch
    return float(matthews_corrcoef(labels, predicted))


def scores(labels: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, float | int]:
    """Of all sentences at once: mcc, accuracy, macro_f1 (the mean of each class's) and sentences.

    Where there are two classes, also f1 and positives, which are of class 1: the acceptable sentences, in CoLA.
    """
    found: dict[str, float | int] = {
        "mcc": mcc(labels, predicted),
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(f1_score(labels, predicted, labels=range(classes), average="macro", zero_division=0)),
        "sentences": len(labels),
    }
    if classes == 2:
        found |= {"f1": float(f1_score(labels, predicted, zero_division=0)), "positives": int(labels.sum())}
    return found


def mcc_per_batch(labels: np.ndarray, predicted: np.ndarray, batch_size: int) -> pd.DataFrame:
    """The tutorial's bar chart: the MCC of each batch of sentences in file order (columns batch, mcc)."""
    starts = range(0, len(labels), batch_size)
    values = [mcc(labels[start : start + batch_size], predicted[start : start + batch_size]) for start in starts]
    return pd.DataFrame({"batch": range(len(values)), "mcc": values})


def prediction_table(test: pd.DataFrame, logits: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """A row per sentence: sentence_source, sentence, label and predicted by name, probability of that, correct.

    `test` has the columns sentence_source, sentence and label; `logits` are (sentences, classes), in the same order.
    """
    predicted = logits.argmax(axis=1)
    return pd.DataFrame(
        {
            "sentence_source": test["sentence_source"].to_list(),
            "sentence": test["sentence"].to_list(),
            "label": [names[label] for label in test["label"]],
            "predicted": [names[label] for label in predicted],
            "probability": probabilities(logits).max(axis=1),
            "correct": predicted == test["label"].to_numpy(),
        }
    )


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of logits (sentences, classes) in float64, each row summing to 1."""
    logits = logits.astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
