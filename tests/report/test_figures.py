"""The figures have what the files have. (How names are drawn: test_page.py.)"""

import numpy as np
import pandas as pd
import pytest

from cola.report import figures

HISTORY = pd.DataFrame({"epoch": [1, 2], "training_loss": [0.4996, 0.3172], "validation_loss": [0.4503, 0.4611]})
SEEDS = {
    "mcc": {"1": 0.1, "2": 0.2, "5": 0.3},
    "mean": 0.2,
    "confidence_interval": [-0.0484, 0.4484],
}


def tick_labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def test_the_learning_curve_draws_both_losses_by_epoch():
    (axes,) = figures.learning_curve(HISTORY).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {"training": [[1, 0.4996], [2, 0.3172]], "validation": [[1, 0.4503], [2, 0.4611]]}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]
    assert axes.get_xticks().tolist() == [1, 2]


def test_the_bars_are_the_mcc_of_each_batch():
    (axes,) = figures.mcc_per_batch(pd.DataFrame({"batch": [0, 1, 2], "mcc": [0.5, -0.25, 0.0]})).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch", "MCC")
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches]
    assert bars == [(pytest.approx(0), 0.5), (1, -0.25), (2, 0)]
    assert axes.get_ylim() == (-1, 1)


def test_the_confusion_matrix_counts_each_pair_of_label_and_prediction():
    right, wrong = ["acceptable"] * 5 + ["unacceptable"] * 3, ["acceptable"] * 3 + ["unacceptable"] * 4 + ["acceptable"]
    (axes,) = figures.confusion_matrix(pd.DataFrame({"label": right, "predicted": wrong})).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "label")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["acceptable", "unacceptable"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["acceptable", "unacceptable"]
    assert np.asarray(axes.images[0].get_array()).tolist() == [[3, 2], [1, 2]]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "3", (1, 0): "2", (0, 1): "1", (1, 1): "2"}


def test_a_label_that_is_never_predicted_has_its_zeros():
    predictions = pd.DataFrame({"label": ["acceptable", "unacceptable"], "predicted": ["acceptable"] * 2})
    (axes,) = figures.confusion_matrix(predictions).axes
    assert np.asarray(axes.images[0].get_array()).tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("references", [{}, {"the tutorial": [0.498], "2 public runs": [0.5, 0.6]}])
def test_every_seed_is_drawn_and_what_the_seeds_compare_with(references):
    (axes,) = figures.seeds(SEEDS | {"references": references}).axes
    dots = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [[0.1, 0.2, 0.3], *references.values()]
    assert tick_labels(axes.yaxis) == ["these seeds", *references]
    assert axes.get_title() == "mean 0.200, 95% interval -0.048 to 0.448"


def test_calibration_is_drawn_by_confidence():
    table = pd.DataFrame({"sentences": [3, 7], "confidence": [0.6, 0.9], "accuracy": [0.5, 1.0]})
    (axes,) = figures.calibration(table).axes
    assert [line.get_xydata().tolist() for line in axes.lines][1] == [[0.6, 0.5], [0.9, 1.0]]
    assert [text.get_text() for text in axes.texts] == ["3", "7"]


def test_sources_are_bars_with_their_publications():
    table = pd.DataFrame(
        {"source": ["own", "w_80"], "publication": ["", "Williams 1980"], "sentences": [1, 2], "mcc": [0.5, -0.25]}
    )
    (axes,) = figures.mcc_per_source(table).axes
    by_height = sorted(axes.patches, key=lambda bar: bar.get_y(), reverse=True)
    assert [bar.get_width() for bar in by_height] == [0.5, -0.25]
    names = dict(zip(axes.get_yticks(), tick_labels(axes.yaxis), strict=True))
    assert [names[bar.get_y() + bar.get_height() / 2] for bar in by_height] == ["own (1)", "Williams 1980 (2)"]
