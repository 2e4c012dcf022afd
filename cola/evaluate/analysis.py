"""What stands behind the one number of a test: how sure it is, where the mistakes are, and what is had without BERT."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from cola.data.sources import PUBLICATIONS
from cola.evaluate import calibration, interval
from cola.model import metrics

WORD = r"\w+|[^\w\s]"  # or a mark of punctuation


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
        "bag_of_words_mcc": metrics.mcc(labels, predicted),
    }


def per_source(test: pd.DataFrame, predicted: np.ndarray) -> pd.DataFrame:
    """A row per source of sentences: source, publication (of CoLA's), sentences, accuracy, mcc."""
    rows = []
    for source, table in test.assign(predicted=predicted).groupby("sentence_source"):
        labels, guesses = table["label"].to_numpy(), table["predicted"].to_numpy()
        publication = PUBLICATIONS.get(source, "")
        rows.append((source, publication, len(table), float((labels == guesses).mean()), metrics.mcc(labels, guesses)))
    return pd.DataFrame(rows, columns=["source", "publication", "sentences", "accuracy", "mcc"])


def mistakes(predictions: pd.DataFrame, count: int) -> pd.DataFrame:
    """The wrong ones of metrics.prediction_table, the surest first."""
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
    predicted, probabilities = logits.argmax(axis=1), metrics.probabilities(logits)
    low, high = interval.mcc_interval(labels, predicted, logits.shape[1])
    reliability, error = calibration.calibration_table(probabilities, labels)
    figures = {"mcc_low": low, "mcc_high": high, "calibration_error": error, **baselines(tables["train"], test)}
    if logits.shape[1] == 2:
        validation = metrics.probabilities(validation_logits)[:, 1]
        threshold = calibration.best_threshold(validation, tables["validation"]["label"].to_numpy())
        figures["threshold"] = threshold
        figures["threshold_mcc"] = metrics.mcc(labels, (probabilities[:, 1] >= threshold).astype(int))
    return figures, per_source(test, predicted), reliability
