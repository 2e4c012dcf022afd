import numpy as np
import pandas as pd
import pytest

from cola.core import files
from cola.evaluate import analysis
from cola.model import metrics


def to_logits(probabilities, classes=2):
    """Return the logits (sentences, classes) for these probabilities of class 1; classes above 1 are improbable."""
    two = np.log(np.stack([1 - np.array(probabilities), np.array(probabilities)], axis=1))
    return np.pad(two, ((0, 0), (0, classes - 2)), constant_values=-9.0)


def to_frame(**labels):
    """Return a frame of sentences and their labels, which are int8 as in data/tokenized; _ in a name is a space."""
    sentences = [name.replace("_", " ") for name in labels]
    return pd.DataFrame({"sentence": sentences, "label": np.array(list(labels.values()), dtype=np.int8)})


@pytest.mark.parametrize(
    ("training", "test", "majority", "accuracy", "mcc"),
    [
        # The MCC is (2*1 - 1*0) / sqrt(2 * 3 * 1 * 2).
        (
            to_frame(good_day=1, bad_day=0, good_one=1, bad_one=0, the_good_day=1),
            to_frame(bad=0, good=1, the_good=1, a_bad=1),
            0.75,
            0.75,
            1 / 3**0.5,
        ),
        # No training sentence has the label 2. If two labels are equally frequent, the majority is the first, 0.
        (to_frame(good_day=1, bad_day=0), to_frame(good=1, bad=0, rare=2, so_rare=2), 0.25, 0.5, None),
        # All training labels are equal, as when the rarest label is in validation only.
        (to_frame(good_day=1), to_frame(good=1, bad=0), 0.5, 0.5, 0.0),
    ],
    ids=["by hand", "a label without training sentences", "one training label"],
)
def test_the_baselines(training, test, majority, accuracy, mcc):
    scores = analysis.score_baselines(training, test)
    assert scores["majority_accuracy"] == majority
    assert scores["bag_of_words_accuracy"] == accuracy
    assert mcc is None or scores["bag_of_words_mcc"] == pytest.approx(mcc)


def test_with_many_labels_the_regression_ignores_the_rarest_words(monkeypatch):
    monkeypatch.setattr(analysis, "WEIGHTS", 4)  # two words for each of two labels
    training = to_frame(a_good=1, a_good_=1, a_rare=0)
    predicted = analysis.predict_bag_of_words(training, to_frame(rare=0, zzz=1))
    assert predicted.tolist() == [1, 1], "rare is as unknown as zzz"


def test_sources_have_their_publications():
    test = pd.DataFrame({"sentence_source": ["w_80", "mine", "w_80"], "label": [1, 0, 0]})
    table = analysis.score_sources(test, np.array([1, 0, 1]))
    assert table.to_dict("records") == [
        {"source": "mine", "publication": "", "sentences": 1, "accuracy": 1.0, "mcc": 0.0},
        {"source": "w_80", "publication": "Williams 1980", "sentences": 2, "accuracy": 0.5, "mcc": 0.0},
    ]


def test_every_source_of_cola_has_a_publication(raw):
    sources = set(pd.concat(pd.read_csv(path) for path in raw.iterdir())["sentence_source"])
    assert sources == analysis.PUBLICATIONS.keys()
    assert len(sources) == 23


def test_the_most_probable_mistakes_come_first():
    predictions = pd.DataFrame({"label": ["a", "b", "a", "b"], "predicted": ["a", "a", "b", "a"]})
    predictions["probability"] = [0.99, 0.7, 0.9, 0.6]
    assert analysis.select_mistakes(predictions, 2).index.to_list() == [2, 1]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_analysis_takes_its_threshold_from_validation(classes):
    test = to_frame(good=1, bad=0, so_bad=1).assign(sentence_source="s")
    tables = {"train": to_frame(good=1, bad=0), "validation": to_frame(a=1, b=0, c=0), "test": test}
    logits, validation_logits = to_logits([0.9, 0.7, 0.95], classes), to_logits([0.85, 0.75, 0.6], classes)
    figures, sources, reliability = analysis.analyse(tables, logits, validation_logits)
    assert all(type(value) is float for value in figures.values()), "JSON takes these"
    assert ("threshold" in figures) == (classes == 2)
    if classes == 2:
        assert figures["threshold"] == pytest.approx(0.8)  # between the first two of validation
        assert figures["threshold_mcc"] == pytest.approx(1)
    assert figures["mcc_low"] <= 0 <= figures["mcc_high"]
    assert (len(sources), reliability["sentences"].sum()) == (1, 3)


def test_every_text_column_of_a_result_is_read_as_text():
    test = pd.DataFrame({"sentence_source": ["1"], "sentence": ["2"], "label": [0]})
    predictions = metrics.tabulate_predictions(test, np.array([[0.0, 1.0]]), ["3", "4"])
    for table in (predictions, analysis.score_sources(test, np.array([0]))):
        text = {name for name in table if isinstance(table[name].iloc[0], str)}
        assert text
        assert text <= set(files.TEXT_COLUMNS)
