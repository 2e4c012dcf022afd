"""The figures show what the files have. (test_page.py tests how names are drawn.)"""

import numpy as np
import pandas as pd
import pytest
from results import DATA_CURVE

from cola.report import figures
from cola.report.references import Reference

BERT = {"encoder": {"name": "google-bert/bert-base-uncased"}}


def read_tick_labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def points(axes, marker):
    """The points of each line with this marker, by its colour."""
    return {line.get_color(): line.get_xydata().tolist() for line in axes.lines if line.get_marker() == marker}


ANALYSIS = {"mcc_low": 0.4, "mcc_high": 0.6, "bag_of_words_mcc": 0.1}


def test_a_run_stands_above_the_baseline_and_the_references():
    comparable = [Reference("the tutorial", BERT, [0.498]), Reference("2 public runs", BERT, [0.52, 0.56])]
    grey = Reference("tiny here, 2 seeds", {"encoder": {"name": "tiny/electra"}}, [0.2, 0.3])
    (axes,) = figures.draw_comparison(0.5, ANALYSIS, comparable, [grey]).axes
    assert dict(zip(read_tick_labels(axes.yaxis), [text.get_text() for text in axes.texts], strict=True)) == {
        "this run\nwith its 95% interval": "0.500",
        "bag-of-words baseline\nwithout an encoder": "0.100",
        "the tutorial": "0.498",
        "2 public runs": "0.540",
        "tiny here\n2 seeds\nelectra": "0.250",
    }
    assert [(line.get_xdata().tolist(), line.get_color()) for line in axes.lines if line.get_marker() == "o"] == [
        ([0.5], figures.BLUE),
        ([0.1], "black"),
        ([0.498], "black"),
        ([0.52, 0.56], "black"),
        ([0.2, 0.3], figures.GREY),
    ]
    assert axes.yaxis_inverted(), "the first row is on top"
    lines = [line.get_xdata() for line in axes.lines if line.get_marker() == "None"]
    assert any(line == pytest.approx([0.4, 0.6]) for line in lines), "the run's interval"
    # The prediction interval, 0.54 -+ 12.7062 * 0.0282843 * sqrt(1.5): t of one degree of freedom.
    assert any(line == pytest.approx([0.0998, 0.9802], abs=1e-4) for line in lines)
    assert any(line == pytest.approx([0.54, 0.54]) for line in lines), "the mean"


def test_the_learning_curve_has_both_losses_by_epoch():
    history = pd.DataFrame({"epoch": [1, 2], "training_loss": [0.5, 0.3], "validation_loss": [0.4, 0.6]})
    (axes,) = figures.draw_learning_curve(history).axes
    assert points(axes, "o") == {figures.BLUE: [[1, 0.5], [2, 0.3]], figures.ORANGE: [[1, 0.4], [2, 0.6]]}
    assert axes.get_xticks().tolist() == [1, 2]


def test_bars_are_the_mcc_of_each_batch():
    (axes,) = figures.draw_mcc_per_batch(pd.DataFrame({"batch": [0, 1, 2], "mcc": [0.5, -0.25, 0.0]})).axes
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches]
    assert bars == [(pytest.approx(0), 0.5), (1, -0.25), (2, 0)]


def test_the_confusion_matrix_counts_each_pair_of_label_and_prediction():
    labels = ["acceptable"] * 5 + ["unacceptable"] * 3
    predicted = ["acceptable"] * 3 + ["unacceptable"] * 4 + ["acceptable"]
    (axes,) = figures.draw_confusion_matrix(pd.DataFrame({"label": labels, "predicted": predicted})).axes
    assert read_tick_labels(axes.xaxis) == read_tick_labels(axes.yaxis) == ["acceptable", "unacceptable"]
    assert np.asarray(axes.images[0].get_array()).tolist() == [[3, 2], [1, 2]]
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "3", (1, 0): "2", (0, 1): "1", (1, 1): "2"}


def test_the_rarest_of_many_labels_share_a_row_and_long_labels_are_cut():
    labels = ["a" * 25, *(f"label {number:02}" for number in range(1, 32))]
    predictions = pd.DataFrame({"label": [*labels, *labels[:30]], "predicted": [*labels[1:], labels[0], *labels[:30]]})
    (axes,) = figures.draw_confusion_matrix(predictions).axes
    assert read_tick_labels(axes.yaxis) == read_tick_labels(axes.xaxis) == ["a" * 23 + "…", *labels[1:30], "2 others"]
    assert {tick.get_rotation() for tick in axes.get_xticklabels()} == {90}
    counts = np.asarray(axes.images[0].get_array())
    assert counts.sum() == 62
    assert counts[-1].tolist() == [1, *[0] * 29, 1], "a sentence of the two others is predicted as the first label"


def test_calibration_is_drawn_by_confidence():
    table = pd.DataFrame({"sentences": [3, 7], "confidence": [0.6, 0.9], "accuracy": [0.5, 1.0]})
    (axes,) = figures.draw_calibration(table).axes
    assert points(axes, "o") == {figures.BLUE: [[0.6, 0.5], [0.9, 1.0]]}
    assert [text.get_text() for text in axes.texts] == ["3", "7"]


def test_the_largest_sources_are_bars_with_their_publications():
    sources = pd.DataFrame(
        {"source": [f"s{number:02}" for number in range(31)], "publication": "", "sentences": 2, "mcc": 0.5}
    )
    sources.loc[0, ["publication", "mcc"]] = "Williams 1980", -0.25
    sources.loc[7, "sentences"] = 1
    (axes,) = figures.draw_mcc_per_source(sources).axes
    bars = sorted(axes.patches, key=lambda bar: bar.get_y(), reverse=True)
    assert [bar.get_width() for bar in bars] == [-0.25] + [0.5] * 29
    names = dict(zip(axes.get_yticks(), read_tick_labels(axes.yaxis), strict=True))
    shown = [names[bar.get_y() + bar.get_height() / 2] for bar in bars]
    assert shown == ["Williams 1980 (2)", *(f"s{number:02} (2)" for number in range(1, 31) if number != 7)]


def test_every_seed_is_drawn_above_the_references():
    summary = {"mcc": {"1": 0.1, "2": 0.2, "5": 0.3}, "mean": 0.2, "confidence_interval": [-0.0484, 0.4484]}
    (axes,) = figures.draw_seeds(summary | {"references": {"2 public runs": [0.5, 0.6]}}).axes
    dots = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dict(zip(read_tick_labels(axes.yaxis), dots, strict=True)) == {
        "these seeds": [0.1, 0.2, 0.3],
        "2 public runs": [0.5, 0.6],
    }
    assert axes.get_title() == "mean 0.200, 95% interval -0.048 to 0.448"


def test_the_data_curve_has_means_intervals_and_seeds_on_a_log_scale():
    (axes,) = figures.draw_data_curve(DATA_CURVE).axes
    assert axes.get_xscale() == "log"
    assert read_tick_labels(axes.xaxis) == ["100", "7,695"]
    means = points(axes, "None")
    assert means[figures.BLUE] == [[100, 0.125], [7695, 0.5]]
    assert means[figures.ORANGE] == [[100, 0], [7695, 0]]
    assert means[figures.GREY] == [[100, 0.25], [7695, 0.25]]
    assert points(axes, ".")[figures.BLUE] == [[7695, 0.4375], [7695, 0.5625]], "the last point's two seeds"
    bands = [band.get_paths()[0].get_extents() for band in axes.collections]
    assert [(band.ymin, band.ymax) for band in bands] == [(0, 0.625), (-0.125, 0.125), (0.125, 0.375)]


def test_the_validation_mcc_is_drawn_by_epoch_and_time():
    (axes,) = figures.draw_mcc_by_epoch(DATA_CURVE).axes
    assert points(axes, "o") == {figures.BLUE: [[1, 0.125], [2, 0.375]], figures.ORANGE: [[1, 0], [2, 0.125]]}
    assert points(axes, "None")[figures.GREY] == [[0, 0.1875], [1, 0.1875]], "the baseline's line"
    assert read_tick_labels(axes.xaxis) == ["1\n1:00", "2\n2:00"]
    long = [{"epoch": epoch, "validation_mcc": 0.5, "seconds": 60.0 * epoch} for epoch in range(1, 126)]
    curves = [*DATA_CURVE["epochs"], {"way": "random_weights", "rows": long}]  # the others stopped early
    (axes,) = figures.draw_mcc_by_epoch(DATA_CURVE | {"epochs": curves}).axes
    assert read_tick_labels(axes.xaxis) == [f"{epoch}\n{epoch}:00" for epoch in range(1, 126, 13)]


def test_methods_are_dots_for_each_source_with_the_best_on_top():
    """A source has the name that its corpus gives it."""
    (axes,) = figures.draw_mcc_by_source(DATA_CURVE).axes
    names = dict(zip(axes.get_yticks(), read_tick_labels(axes.yaxis), strict=True))
    assert names == {1: "case (40)", 0: "passive (60)"}
    assert points(axes, "o") == {
        figures.BLUE: [[0.75, 1], [0.25, 0]],
        figures.ORANGE: [[0, 1], [0, 0]],
        figures.GREY: [[-0.125, 1], [0.125, 0]],
    }
