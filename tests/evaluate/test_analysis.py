import numpy as np
import pandas as pd
import pytest

from cola.core import files
from cola.evaluate import analysis
from cola.model import metrics


def logits(probabilities):
    """Of two classes, from the probability of class 1."""
    return np.log(np.stack([1 - np.array(probabilities), np.array(probabilities)], axis=1))


def test_baselines_see_words_and_nothing_else():
    training = pd.DataFrame({"sentence": ["good day", "bad day", "good one", "bad one"], "label": [1, 0, 1, 0]})
    test = pd.DataFrame({"sentence": ["bad", "good", "good", "bad !"], "label": [0, 1, 1, 1]})
    found = analysis.baselines(pd.concat([training, training[:1]]), test)
    assert found["majority_accuracy"] == 0.75
    assert found["bag_of_words_accuracy"] == 0.75
    assert found["bag_of_words_mcc"] == pytest.approx(1 / 3**0.5)  # (2*1 - 1*0) / sqrt(2 * 3 * 1 * 2)


def test_a_label_that_no_training_sentence_has_is_predicted_for_none():
    training = pd.DataFrame({"sentence": ["good day", "bad day"], "label": np.array([1, 0], dtype=np.int8)})
    test = pd.DataFrame({"sentence": ["good", "bad", "rare", "rare"], "label": np.array([1, 0, 2, 2], dtype=np.int8)})
    of_three_labels = analysis.baselines(training, test)
    assert of_three_labels["majority_accuracy"] == 0.25  # of two that are as frequent, the first: 0
    assert of_three_labels["bag_of_words_accuracy"] == 0.5
    # All training sentences have the label 1, as when the rare label 0 falls wholly into validation.
    of_one_label = analysis.baselines(training[:1], test[:2])
    assert of_one_label == {"majority_accuracy": 0.5, "bag_of_words_accuracy": 0.5, "bag_of_words_mcc": 0.0}


def test_with_many_labels_the_rarest_words_are_left_out(monkeypatch):
    monkeypatch.setattr(analysis, "WEIGHTS", 4)  # two words for each of two labels
    training = pd.DataFrame({"sentence": ["a good", "a good", "a rare"], "label": np.array([1, 1, 0], dtype=np.int8)})
    test = pd.DataFrame({"sentence": ["rare", "zzz"], "label": np.array([0, 1], dtype=np.int8)})
    assert analysis.bag_of_words(training, test).tolist() == [1, 1], "to the regression, rare is as unknown as zzz"


def test_sources_have_their_publications():
    test = pd.DataFrame({"sentence_source": ["w_80", "own", "w_80"], "label": [1, 0, 0]})
    table = analysis.per_source(test, np.array([1, 0, 1]))
    assert table.to_dict("records") == [
        {"source": "own", "publication": "", "sentences": 1, "accuracy": 1.0, "mcc": 0.0},
        {"source": "w_80", "publication": "Williams 1980", "sentences": 2, "accuracy": 0.5, "mcc": 0.0},
    ]


def test_every_source_of_cola_has_a_publication(raw):
    sources = set(pd.concat(pd.read_csv(path) for path in raw.iterdir())["sentence_source"])
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
            np.pad(of_two, ((0, 0), (0, 1)), constant_values=-9.0) for of_two in (of_test, of_validation)
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
