"""The analysis of a test: interval, calibration, baselines, scores by source, mistakes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from cola.evaluate import calibration, interval
from cola.model import metrics

# The regression's limit; a weight takes 300 bytes. With many labels, the regression ignores the rarest words.
WEIGHTS = 2**20
WORD_OR_PUNCTUATION = r"\w+|[^\w\s]"
# The publications of CoLA's sentences, by sentence_source. Where CoLA's README and files differ, the files count.
PUBLICATIONS = {
    "ad03": "Adger 2003",
    "b_73": "Bresnan 1973",
    "b_82": "Baltin 1982",
    "bc01": "Baltin, Collins 2001",
    "c-05": "Collins 2005",
    "c_13": "Carnie 2013",
    "cj99": "Culicover, Jackendoff 1999",
    "clc95": "Chung et al. 1995",
    "d_98": "Dayal 1998",
    "g_81": "Gazdar 1981",
    "gj04": "Goldberg, Jackendoff 2004",
    "j_71": "Jackendoff 1971",
    "kl93": "Kadmon, Landman 1993",
    "ks08": "Kim, Sells 2008",
    "l-93": "Levin 1993",
    "m_02": "Miller 2002",
    "r-67": "Ross 1967",
    "rhl07": "Rappaport Hovav, Levin 2008",
    "s_97": "Sag 1997",
    "sgww85": "Sag et al. 1985",
    "sks13": "Sportiche et al. 2013",
    "swb04": "Sag et al. 1999",
    "w_80": "Williams 1980",
}


def predict_bag_of_words(training: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Return the labels (sentences,) that a logistic regression on bags of words predicts for the test.

    A bag has a sentence's words and pairs of adjacent words, weighted by tf-idf. If all training labels are equal, that
    label is predicted.
    """
    labels = training["label"].nunique()
    if labels == 1:
        return np.full_like(test["label"].to_numpy(), training["label"].iloc[0])
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD_OR_PUNCTUATION, max_features=WEIGHTS // labels)
    classifier = make_pipeline(words, LogisticRegression(C=10, max_iter=1000))
    predicted: np.ndarray = classifier.fit(training["sentence"], training["label"]).predict(test["sentence"])
    return predicted


def score_baselines(training: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Return the test scores of the most frequent training label and of the bag-of-words baseline."""
    labels, predicted = test["label"].to_numpy(), predict_bag_of_words(training, test)
    most_frequent = training["label"].mode()[0]
    return {
        "majority_accuracy": float((labels == most_frequent).mean()),
        "bag_of_words_accuracy": float((labels == predicted).mean()),
        "bag_of_words_mcc": metrics.compute_mcc(labels, predicted),
    }


def score_sources(test: pd.DataFrame, predicted: np.ndarray) -> pd.DataFrame:
    """Return a row per source: source, publication ("" except for CoLA's), sentences, accuracy, mcc."""
    rows = []
    for source, table in test.assign(predicted=predicted).groupby("sentence_source"):
        labels, predicted_labels = table["label"].to_numpy(), table["predicted"].to_numpy()
        accuracy, mcc = float((labels == predicted_labels).mean()), metrics.compute_mcc(labels, predicted_labels)
        rows.append((source, PUBLICATIONS.get(source, ""), len(table), accuracy, mcc))
    return pd.DataFrame(rows, columns=["source", "publication", "sentences", "accuracy", "mcc"])


def select_mistakes(predictions: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return at most `count` rows of metrics.tabulate_predictions that are wrong, the most probable first."""
    wrong = predictions[predictions["predicted"] != predictions["label"]]
    return wrong.sort_values("probability", ascending=False, kind="stable").head(count)


def analyse(
    tables: Mapping[str, pd.DataFrame], logits: np.ndarray, validation_logits: np.ndarray
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Analyse a test. Returns (figures, the table of score_sources, the table of calibration).

    `tables` are train (or a sample of it), validation and test; `logits`, of test, and `validation_logits` are
    (sentences, classes). For two classes the figures also have the best threshold on the validation sentences, and its
    test MCC.
    """
    test, labels = tables["test"], tables["test"]["label"].to_numpy()
    predicted, probabilities = logits.argmax(axis=1), metrics.compute_probabilities(logits)
    low, high = interval.bootstrap_mcc(labels, predicted, logits.shape[1])
    reliability, error = calibration.measure_calibration(probabilities, labels)
    figures = {"mcc_low": low, "mcc_high": high, "calibration_error": error, **score_baselines(tables["train"], test)}
    if logits.shape[1] == 2:
        validation = metrics.compute_probabilities(validation_logits)[:, 1]
        threshold = calibration.find_best_threshold(validation, tables["validation"]["label"].to_numpy())
        figures["threshold"] = threshold
        figures["threshold_mcc"] = metrics.compute_mcc(labels, (probabilities[:, 1] >= threshold).astype(int))
    return figures, score_sources(test, predicted), reliability
