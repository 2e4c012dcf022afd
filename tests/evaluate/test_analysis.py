import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from cola.evaluate import analysis, calibration, interval
from cola.model import metrics

# 50 of each class, 40 of them right: MCC 0.6
LABELS = np.repeat([0, 1], 50)
PREDICTED = np.concatenate([np.repeat([0, 1], [40, 10]), np.repeat([1, 0], [40, 10])])


def logits(probabilities):
    """Of two classes, from the probability of class 1."""
    return np.log(np.stack([1 - np.array(probabilities), np.array(probabilities)], axis=1))


def test_the_interval_is_that_of_resampled_sentences():
    low, high = interval.mcc_interval(LABELS, PREDICTED, 2)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 100, (4000, 100))
    drawn = [metrics.mcc(LABELS[row], PREDICTED[row]) for row in rows]
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.015)
    assert low < 0.6 < high
    assert (low, high) == interval.mcc_interval(LABELS, PREDICTED, 2), "another interval of the same test"


@pytest.mark.filterwarnings("ignore:A single label")
@settings(max_examples=200)
@given(st.integers(2, 4).flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), min_size=1, max_size=40)))
def test_the_mcc_of_counts_is_scikit_learns(pairs):
    labels, predicted = np.array(pairs).T
    counts = np.zeros((4, 4))
    np.add.at(counts, (labels, predicted), 1)
    assert interval.mcc_of_confusion_matrix(counts) == pytest.approx(matthews_corrcoef(labels, predicted), abs=1e-9)


def test_calibration_by_hand():
    probabilities = np.array([[0.05, 0.95], [0.05, 0.95], [0.91, 0.09], [0.6, 0.4], [0.0, 1.0]])
    table, error = calibration.calibration_table(probabilities, np.array([1, 0, 0, 1, 1]))
    assert table.columns.to_list() == ["sentences", "confidence", "accuracy"]
    assert table["sentences"].to_list() == [1, 4]
    assert table["confidence"].to_list() == pytest.approx([0.6, (0.95 + 0.95 + 0.91 + 1) / 4])
    assert table["accuracy"].to_list() == [0, 0.75]
    assert error == pytest.approx((1 * 0.6 + 4 * (0.9525 - 0.75)) / 5)


def test_the_best_threshold_by_hand():
    # Predicting 1 from 0.8 on is right every time; so is no other.
    assert calibration.best_threshold(np.array([0.9, 0.7, 0.6, 0.55]), np.array([1, 0, 0, 0])) == pytest.approx(0.8)
    # 0.5 is as good as what lies around it, and the nearest to itself.
    assert calibration.best_threshold(np.array([0.9, 0.1]), np.array([1, 0])) == 0.5
    assert calibration.best_threshold(np.array([0.9, 0.8]), np.array([1, 1])) == 0.5


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=2, max_size=30))
def test_no_threshold_is_better_than_the_best(pairs):
    probabilities, labels = np.array([each for each, _ in pairs]), np.array([label for _, label in pairs])

    def score(threshold):
        return metrics.mcc(labels, (probabilities >= threshold).astype(int))

    best = score(calibration.best_threshold(probabilities, labels))
    assert best >= max(score(threshold) for threshold in [0.5, *probabilities]) - 1e-9


def test_baselines_see_words_and_nothing_else():
    training = pd.DataFrame({"sentence": ["good day", "bad day", "good one", "bad one"], "label": [1, 0, 1, 0]})
    test = pd.DataFrame({"sentence": ["bad", "good", "good", "bad !"], "label": [0, 1, 1, 1]})
    found = analysis.baselines(pd.concat([training, training[:1]]), test)
    assert found["majority_accuracy"] == 0.75
    assert found["bag_of_words_accuracy"] == 0.75
    assert found["bag_of_words_mcc"] == pytest.approx(1 / 3**0.5)  # (2*1 - 1*0) / sqrt(2 * 3 * 1 * 2)


def test_sources_have_their_publications():
    test = pd.DataFrame({"sentence_source": ["w_80", "own", "w_80"], "label": [1, 0, 0]})
    table = analysis.per_source(test, np.array([1, 0, 1]))
    assert table.to_dict("records") == [
        {"source": "own", "publication": "", "sentences": 1, "accuracy": 1.0, "mcc": 0.0},
        {"source": "w_80", "publication": "Williams 1980", "sentences": 2, "accuracy": 0.5, "mcc": 0.0},
    ]


def test_every_source_of_cola_has_a_publication(raw):
    sources = {line.split("\t")[0] for path in raw.iterdir() for line in path.read_text().splitlines()}
    assert sources == analysis.PUBLICATIONS.keys()
    assert len(sources) == 23


def test_mistakes_are_wrong_and_the_surest_come_first():
    predictions = pd.DataFrame({"label": ["a", "b", "a", "b"], "predicted": ["a", "a", "b", "a"]})
    predictions["probability"] = [0.99, 0.7, 0.9, 0.6]
    assert analysis.mistakes(predictions, 2).index.to_list() == [2, 1]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_analysis_is_of_the_test_with_a_threshold_from_validation(classes):
    train = pd.DataFrame({"sentence": ["good", "bad"], "label": [1, 0]})
    test = pd.DataFrame({"sentence_source": "s", "sentence": ["good", "bad", "bad"], "label": [1, 0, 1]})
    validation = pd.DataFrame({"label": [1, 0, 0]})
    tables = {"train": train, "validation": validation, "test": test}
    of_test, of_validation = logits([0.9, 0.7, 0.95]), logits([0.85, 0.75, 0.6])
    if classes == 3:
        of_test, of_validation = (
            np.pad(each, ((0, 0), (0, 1)), constant_values=-9.0) for each in (of_test, of_validation)
        )
    figures, per_source, calibration = analysis.analyse(tables, of_test, of_validation)
    assert all(type(value) is float for value in figures.values()), "JSON takes these"
    if classes == 2:
        assert figures["threshold"] == pytest.approx(0.8)  # between the first two of validation
        assert figures["threshold_mcc"] == pytest.approx(1)
    else:
        assert "threshold" not in figures
    assert figures["mcc_low"] <= 0 <= figures["mcc_high"]
    assert (len(per_source), calibration["sentences"].sum()) == (1, 3)


def test_every_text_column_that_the_stages_write_is_read_as_text():
    test = pd.DataFrame({"sentence_source": ["1"], "sentence": ["2"], "label": [0]})
    written = [
        metrics.prediction_table(test, np.array([[0.0, 1.0]]), ["3", "4"]),
        analysis.per_source(test, np.array([0])),
    ]
    for table in written:
        text = {name for name in table if isinstance(table[name].iloc[0], str)}
        assert text
        assert text <= set(files.TEXT_COLUMNS)
