import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cola.evaluate import calibration
from cola.model import metrics


def test_calibration_by_hand():
    probabilities = np.array([[0.05, 0.95], [0.05, 0.95], [0.91, 0.09], [0.6, 0.4], [0.0, 1.0]])
    table, error = calibration.measure_calibration(probabilities, np.array([1, 0, 0, 1, 1]))
    assert table.columns.to_list() == ["sentences", "confidence", "accuracy"]
    assert table["sentences"].to_list() == [1, 4]
    assert table["confidence"].to_list() == pytest.approx([0.6, (0.95 + 0.95 + 0.91 + 1) / 4])
    assert table["accuracy"].to_list() == [0, 0.75]
    assert error == pytest.approx((1 * 0.6 + 4 * (0.9525 - 0.75)) / 5)


def test_the_best_threshold_by_hand():
    # With the threshold 0.8 every prediction is right.
    assert calibration.find_best_threshold(np.array([0.9, 0.7, 0.6, 0.55]), np.array([1, 0, 0, 0])) == pytest.approx(
        0.8
    )
    # Any threshold between the two is right, and 0.5 is the nearest to 0.5.
    assert calibration.find_best_threshold(np.array([0.9, 0.1]), np.array([1, 0])) == 0.5
    assert calibration.find_best_threshold(np.array([0.9, 0.8]), np.array([1, 1])) == 0.5


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=2, max_size=30))
def test_no_threshold_is_better_than_the_best(pairs):
    probabilities, labels = np.array([probability for probability, _ in pairs]), np.array([label for _, label in pairs])

    def score(threshold):
        return metrics.compute_mcc(labels, (probabilities >= threshold).astype(int))

    best = score(calibration.find_best_threshold(probabilities, labels))
    assert best >= max(score(threshold) for threshold in [0.5, *probabilities]) - 1e-9
