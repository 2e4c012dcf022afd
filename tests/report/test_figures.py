"""The figures have what the files have. (How names are drawn: test_page.py.)"""

import numpy as np
import pandas as pd
import pytest
from results import DATA_CURVE

from cola.report import figures
from cola.report.references import Reference

HISTORY = pd.DataFrame({"epoch": [1, 2], "training_loss": [0.4996, 0.3172], "validation_loss": [0.4503, 0.4611]})
SEEDS = {
    "mcc": {"1": 0.1, "2": 0.2, "5": 0.3},
    "mean": 0.2,
    "confidence_interval": [-0.0484, 0.4484],
}


def tick_labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def comparison(comparable, others):
    """The axes of a run of 0.5, within 0.4 to 0.6, beside these."""
    analysis = {"mcc_low": 0.4, "mcc_high": 0.6, "bag_of_words_mcc": 0.1}
    (axes,) = figures.comparison(0.5, analysis, comparable, others).axes
    return axes


def dots(axes):
    """MCCs and colour of each row's runs, the top row first."""
    rows = [line for line in axes.lines if line.get_marker() == "o"]
    return [
        (list(line.get_xdata()), line.get_color()) for line in sorted(rows, key=lambda line: np.mean(line.get_ydata()))
    ]


def test_a_run_stands_above_what_it_compares_with_and_what_it_does_not():
    bert, tiny = {"encoder": {"name": "google-bert/bert-base-uncased"}}, {"encoder": {"name": "tiny/electra"}}
    comparable = [Reference("the tutorial", bert, [0.498]), Reference("2 public runs", bert, [0.52, 0.56])]
    axes = comparison(comparable, [Reference("electra here, 2 seeds", tiny, [0.2, 0.3])])
    black, grey = "black", figures.GREY
    assert dots(axes) == [
        ([0.5], figures.BLUE),
        ([0.1], black),
        ([0.498], black),
        ([0.52, 0.56], black),
        ([0.2, 0.3], grey),
    ]
    written = [text.get_text() for text in axes.texts]
    assert written == [
        *("this run and its 95% interval", "0.500", "bag-of-words baseline, without an encoder", "0.100"),
        *("the tutorial", "0.498", "2 public runs", "0.540"),
        *("with another encoder, not comparable:", "electra here, 2 seeds", "0.250"),
    ]
    assert axes.yaxis_inverted(), "the first row on top"


def test_the_interval_of_the_run_and_of_one_more_are_drawn():
    """Two runs of 0.52 and 0.56: 0.54 -+ 12.7062 * 0.0282843 * sqrt(1.5) (t of one degree of freedom)."""
    axes = comparison([Reference("2 public runs", {}, [0.52, 0.56])], [])
    lines = [line.get_xdata() for line in axes.lines if line.get_marker() == "None"]
    assert [0.4, 0.6] in [list(line) for line in lines]
    assert any(line == pytest.approx([0.0998, 0.9802], abs=1e-4) for line in lines)
    assert [0.54, 0.54] in [pytest.approx(line) for line in lines], "the mean"


def test_a_run_alone_has_no_legend_of_runs():
    axes = comparison([], [])
    assert dots(axes) == [([0.5], figures.BLUE), ([0.1], "black")]
    assert axes.get_xlabel() == ""


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


def test_of_many_labels_the_most_frequent_have_a_row_and_the_others_have_one_together():
    labels = [f"label {number:02}" for number in range(32)]
    predictions = pd.DataFrame({"label": [*labels, *labels[:30]], "predicted": [*labels[1:], labels[0], *labels[:30]]})
    (axes,) = figures.confusion_matrix(predictions).axes
    assert tick_labels(axes.yaxis) == [*labels[:30], "2 others"]
    counts = np.asarray(axes.images[0].get_array())
    assert counts.sum() == 62
    assert counts[-1].tolist() == [1, *[0] * 29, 1], "of the two others one is predicted as the first"


def test_of_many_sources_the_largest_have_a_row_and_the_others_have_one_together():
    sizes = pd.Series({f"source {number:02}": 2 for number in range(30)} | {"a": 1, "b": 1})
    per_source = pd.DataFrame({"source": sizes.index, "publication": "", "sentences": sizes.to_list()})
    per_source = per_source.assign(accuracy=1.0, mcc=0.5)
    predictions = pd.DataFrame(
        {"sentence_source": ["a", "b", "source 00"], "label": ["x", "y", "x"], "predicted": ["y", "y", "x"]}
    )
    table = figures.largest_sources(per_source, predictions)
    assert table["source"].to_list() == [*sizes.index[:30], "2 others"]
    assert table.iloc[-1].to_list() == ["2 others", "", 2, 0.5, 0.0]
    assert figures.largest_sources(per_source[:30], predictions).equals(per_source[:30])


@pytest.mark.parametrize(
    ("names", "drawn", "rotation"),
    [
        (["acceptable", "unacceptable"], ["acceptable", "unacceptable"], 0),
        (["a" * 24, "b" * 25], ["a" * 24, "b" * 23 + "…"], 90),
    ],
)
def test_long_labels_leave_room_for_the_matrix(names, drawn, rotation):
    (axes,) = figures.confusion_matrix(pd.DataFrame({"label": names, "predicted": names})).axes
    assert tick_labels(axes.xaxis) == tick_labels(axes.yaxis) == drawn
    assert {tick.get_rotation() for tick in axes.get_xticklabels()} == {rotation}


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


def drawn(axes, marker):
    """The points of each line that is drawn with this marker, by its colour."""
    return {line.get_color(): line.get_xydata().tolist() for line in axes.lines if line.get_marker() == marker}


def test_the_data_curve_has_means_intervals_and_seeds_on_a_log_scale():
    (axes,) = figures.data_curve(DATA_CURVE).axes
    assert axes.get_xscale() == "log"
    assert tick_labels(axes.xaxis) == ["100", "7,695"]
    means = drawn(axes, "None")
    assert means[figures.BLUE] == [[100, 0.125], [7695, 0.5]]
    assert means[figures.ORANGE] == [[100, 0], [7695, 0]]
    assert means[figures.GREY] == [[100, 0.25], [7695, 0.25]]
    assert drawn(axes, ".")[figures.BLUE] == [[7695, 0.4375], [7695, 0.5625]], "the last point's two seeds"
    bands = [
        (band.get_paths()[0].get_extents().ymin, band.get_paths()[0].get_extents().ymax) for band in axes.collections
    ]
    assert bands == [(0, 0.625), (-0.125, 0.125), (0.125, 0.375)]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "pretrained",
        "random weights",
        "bag-of-words baseline",
        "always the same answer",
    ]


def test_the_validation_mcc_is_drawn_by_epoch_and_second():
    (axes,) = figures.mcc_by_epoch(DATA_CURVE).axes
    points = drawn(axes, "o")
    assert points == {figures.BLUE: [[1, 0.125], [2, 0.375]], figures.ORANGE: [[1, 0], [2, 0.125]]}
    assert drawn(axes, "None")[figures.GREY] == [[0, 0.1875], [1, 0.1875]], "from side to side"
    assert tick_labels(axes.xaxis) == ["1\n1:00", "2\n2:00"]


def test_the_ways_are_dots_for_each_source_the_best_on_top():
    (axes,) = figures.mcc_by_source_and_method(DATA_CURVE).axes
    names = dict(zip(axes.get_yticks(), tick_labels(axes.yaxis), strict=True))
    assert names == {1: "case (40)", 0: "passive (60)"}
    assert drawn(axes, "o") == {
        figures.BLUE: [[0.75, 1], [0.25, 0]],
        figures.ORANGE: [[0, 1], [0, 0]],
        figures.GREY: [[-0.125, 1], [0.125, 0]],
    }
