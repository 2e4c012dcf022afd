import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from cola.evaluate import interval

# 50 of each class, 40 of them right: MCC 0.6
LABELS = np.repeat([0, 1], 50)
PREDICTED = np.concatenate([np.repeat([0, 1], [40, 10]), np.repeat([1, 0], [40, 10])])


def test_the_interval_is_that_of_resampled_sentences():
    low, high = interval.bootstrap_mcc(LABELS, PREDICTED, 2)
    rows = np.random.default_rng(1).integers(0, 100, (1500, 100))
    mccs = [np.corrcoef(LABELS[row], PREDICTED[row])[0, 1] for row in rows]  # for two classes, this is the MCC
    assert (low, high) == pytest.approx(tuple(np.percentile(mccs, [2.5, 97.5])), abs=0.02)
    assert low < 0.6 < high


@pytest.mark.filterwarnings("ignore:A single label")
@settings(max_examples=200)
@given(st.integers(2, 4).flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), min_size=1, max_size=40)))
def test_the_mcc_of_counts_is_scikit_learns(pairs):
    labels, predicted = np.array(pairs).T
    counts = np.zeros((4, 4))
    np.add.at(counts, (labels, predicted), 1)
    assert interval.compute_mcc(counts) == pytest.approx(matthews_corrcoef(labels, predicted), abs=1e-9)


@pytest.mark.parametrize("resamples", [1, 999])
def test_blocks_do_not_change_the_resampled_tests(monkeypatch, resamples):
    labels, predicted = np.random.default_rng(0).integers(0, 3, (2, 200))
    monkeypatch.setattr(interval, "RESAMPLES", 1500)
    whole = [interval.resample_mccs(labels, predicted[None], 3), interval.bootstrap_mcc(labels, predicted, 3)]
    monkeypatch.setattr(interval, "BLOCK_VALUES", resamples * 200)
    assert np.array_equal(interval.resample_mccs(labels, predicted[None], 3), whole[0])
    assert interval.bootstrap_mcc(labels, predicted, 3) == whole[1]


def test_the_interval_of_a_thousand_classes_takes_little_memory(monkeypatch):
    monkeypatch.setattr(interval, "RESAMPLES", 1000)  # 8 GB of confusion matrices
    labels, predicted = np.random.default_rng(0).integers(0, 1000, (2, 2000))
    tracemalloc.start()
    try:
        low, high = interval.bootstrap_mcc(labels, predicted, 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert -0.05 < low < 0 < high < 0.05, "chance"
    assert 2**20 < peak < 40e6  # bytes


def test_models_are_resampled_on_the_same_tests():
    predicted = np.stack([PREDICTED, PREDICTED, LABELS, 1 - LABELS, np.zeros(100, int)])
    mccs = interval.resample_mccs(LABELS, predicted, 2)
    assert mccs.shape == (10_000, 5)
    assert (mccs[:, 0] == mccs[:, 1]).all(), "paired"
    assert (mccs[:, 2:] == [1, -1, 0]).all()
    expected = interval.bootstrap_mcc(LABELS, PREDICTED, 2)
    assert np.percentile(mccs[:, 0], [2.5, 97.5]) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("classes", [12, 100])
def test_labels_in_eight_bits_do_not_overflow(classes, monkeypatch):
    monkeypatch.setattr(interval, "RESAMPLES", 200)
    labels = np.tile(np.arange(classes, dtype=np.int8), 5)
    right, wrong = interval.resample_mccs(labels, np.stack([labels, np.roll(labels, 1)]), classes).T
    assert (right == 1).all()
    assert wrong.mean() == pytest.approx(matthews_corrcoef(labels, np.roll(labels, 1)), abs=0.01)
