import math

import numpy as np
import pandas as pd
import pytest

from cola.model import metrics

# 3 true positives, 2 false negatives, 2 true negatives, 1 false positive
LABELS = np.array([1, 1, 1, 1, 1, 0, 0, 0], dtype=np.int8)
PREDICTED = np.array([1, 1, 1, 0, 0, 0, 0, 1])
# (3*2 - 1*2) / sqrt((3+1) * (3+2) * (2+1) * (2+2)) = 4 / sqrt(240)
MCC = 0.2581988897471611


def test_scores_of_a_small_confusion_matrix():
    scores = metrics.compute_scores(LABELS, PREDICTED, 2)
    assert scores == {
        "mcc": pytest.approx(MCC, abs=1e-12),
        "accuracy": 0.625,  # 5 of 8
        "macro_f1": pytest.approx((2 / 3 + 4 / 7) / 2, abs=1e-12),  # f1 of class 0: 2*2 / (2*2 + 2 + 1)
        "f1": pytest.approx(2 / 3, abs=1e-12),  # 2*3 / (2*3 + 1 + 2)
        "sentences": 8,
        "positives": 5,
    }
    assert {type(value) for value in scores.values()} == {int, float}, "JSON needs these"


def test_scores_of_three_classes_without_a_label_of_the_third():
    # f1: 1, 2*1 / (2*1 + 0 + 1), 0. Gorodkin's MCC: (3*4 - 2*2 - 2*1) / sqrt((16 - 4 - 4) * (16 - 4 - 1 - 1))
    assert metrics.compute_scores(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), 3) == {
        "mcc": pytest.approx(6 / 80**0.5, abs=1e-12),
        "accuracy": 0.75,
        "macro_f1": pytest.approx((1 + 2 / 3 + 0) / 3, abs=1e-12),
        "sentences": 4,
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("labels", "predicted"), [([1, 1], [1, 1]), ([1, 1], [0, 1]), ([0, 1], [1, 1]), ([0], [0])])
def test_mcc_of_a_single_class_is_0_without_a_warning(labels, predicted):
    assert metrics.compute_mcc(np.array(labels), np.array(predicted)) == 0


def test_mcc_of_each_batch_in_file_order():
    labels = np.array([1, 0, 1, 0, 1, 0, 1])
    predicted = np.array([1, 0, 0, 1, 1, 1, 1])
    per_batch = metrics.compute_mcc_per_batch(labels, predicted, 2)
    assert per_batch.columns.to_list() == ["batch", "mcc"]
    assert per_batch["batch"].to_list() == [0, 1, 2, 3]
    assert per_batch["mcc"].to_list() == pytest.approx([1, -1, 0, 0])  # the last batch is one sentence


def test_softmax_of_known_and_of_huge_logits():
    logits = np.array([[0.0, math.log(3)], [5.0, 5.0], [math.log(9), 0.0]])
    assert metrics.compute_probabilities(logits) == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]]))
    assert metrics.compute_probabilities(np.array([[1000, 1000], [-2000, 2000]], np.float32)).tolist() == [
        [0.5, 0.5],
        [0, 1],
    ]


def test_predictions_are_in_the_order_of_the_sentences():
    chosen = pd.DataFrame(
        {"sentence_source": ["gj04", "clc95", "ks08"], "sentence": ["He go.", "He left.", "It."], "label": [0, 1, 0]},
        index=[7, 3, 5],  # a sample's index
    )
    logits = np.array([[0.0, math.log(3)], [0.0, math.log(4)], [math.log(9), 0.0]])
    table = metrics.tabulate_predictions(chosen, logits, ["unacceptable", "acceptable"])
    assert table.columns.to_list() == ["sentence_source", "sentence", "label", "predicted", "probability", "correct"]
    assert table.to_numpy().tolist() == [
        ["gj04", "He go.", "unacceptable", "acceptable", pytest.approx(0.75), False],
        ["clc95", "He left.", "acceptable", "acceptable", pytest.approx(0.8), True],
        ["ks08", "It.", "unacceptable", "unacceptable", pytest.approx(0.9), True],
    ]
    assert list(table.index) == [0, 1, 2]
