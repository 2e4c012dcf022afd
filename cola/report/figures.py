"""The figures of a result, drawn with Matplotlib.

Texts of a corpus need parse_math=False: Matplotlib takes the text between two $ for a formula.
"""

import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cola.core import files
from cola.report.references import Reference, compute_prediction_interval
from cola.report.words import format_time, shorten, spell

BLUE, ORANGE, GREY = "#3b7fcb", "#d9782d", "#7a7a7a"  # visible on white and on black

MOST_ROWS = 30  # sources or labels: a corpus may have thousands
LONGEST_NAME = 24  # characters; a longer name would leave no room for the figure beside it


def _make_axes(height: float) -> tuple[Figure, Axes]:
    """Return a figure of 6 by `height` inches, and its axes."""
    figure = Figure(figsize=(6, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_comparison(
    mcc: float, analysis: Mapping[str, Any], comparable: Sequence[Reference], incomparable: Sequence[Reference]
) -> Figure:
    """Draw a test MCC with its interval above the baseline and the references, in a row each.

    `analysis` has mcc_low, mcc_high and bag_of_words_mcc. `incomparable` ones used another encoder, and are grey.
    """
    rows = [
        ("this run, with its 95% interval", [mcc], BLUE),
        ("bag-of-words baseline, without an encoder", [analysis["bag_of_words_mcc"]], "black"),
        *((reference.name, reference.mccs, "black") for reference in comparable),
        *((_name_with_encoder(reference), reference.mccs, GREY) for reference in incomparable),
    ]
    figure, axes = _make_axes(1.4 + 0.45 * len(rows))
    low, high = analysis["mcc_low"], analysis["mcc_high"]
    axes.axvspan(low, high, color=BLUE, alpha=0.12, linewidth=0)
    axes.plot([low, high], [0, 0], color=BLUE, alpha=0.6, linewidth=3)
    for y, (_, mccs, color) in enumerate(rows):
        mean = float(np.mean(mccs))
        if len(mccs) > 1:
            axes.plot(
                compute_prediction_interval(mccs), [y, y], color=color, alpha=0.2, linewidth=12, solid_capstyle="butt"
            )
            axes.plot([mean, mean], [y - 0.25, y + 0.25], color=color, linewidth=2)
        axes.plot(mccs, y + _spread(mccs), "o", color=color, alpha=0.7 if len(mccs) > 1 else 1)
        axes.text(1.02, y, f"{mean:.3f}", transform=axes.get_yaxis_transform(), va="center")
    left = min(axes.get_xlim()[0], -0.03)
    axes.set(title="Test MCC", xlim=(left, None), ylim=(len(rows) - 0.5, -0.5))  # the first row is on top
    lines = ["\n".join(textwrap.fill(part, 28) for part in name.split(", ")) for name, _, _ in rows]
    axes.set_yticks(range(len(rows)), lines, parse_math=False)
    if len(rows) > 2:
        legend = "dot: a run; line: the mean; bar: 95% prediction interval"
        axes.set_xlabel(f"{legend}\ngrey: another encoder, not comparable" if incomparable else legend, loc="right")
    return figure


def _name_with_encoder(reference: Reference) -> str:
    encoder = Path(reference.source["encoder"]["name"]).name
    return reference.name if encoder in reference.name else f"{reference.name}, {encoder}"


def _spread(mccs: Sequence[float]) -> np.ndarray:
    """Return small vertical offsets that keep the dots of similar MCCs apart."""
    return np.linspace(-0.12, 0.12, len(mccs)) * (len(mccs) > 1)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG of 100 dots per inch."""
    with files.atomic_file(path) as partial, without_warnings():
        figure.savefig(partial, format="png", dpi=100)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence Matplotlib's warning of every letter that the font lacks. It draws a box instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def draw_learning_curve(history: pd.DataFrame) -> Figure:
    """Draw training and validation loss by epoch (columns of history.csv)."""
    figure, axes = _make_axes(3.6)
    axes.plot(history["epoch"], history["training_loss"], "o-", color=BLUE, label="training")
    axes.plot(history["epoch"], history["validation_loss"], "o-", color=ORANGE, label="validation")
    axes.set(title="Learning curve", xlabel="epoch", ylabel="loss", xticks=history["epoch"][:: 1 + len(history) // 10])
    axes.legend(frameon=False)
    return figure


def draw_mcc_per_batch(per_batch: pd.DataFrame) -> Figure:
    """Draw the MCC of each batch of test sentences (columns of mcc_per_batch.csv)."""
    figure, axes = _make_axes(3.6)
    axes.bar(per_batch["batch"], per_batch["mcc"], color=BLUE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title="MCC of each batch", xlabel="batch", ylabel="MCC", ylim=(-1, 1))
    return figure


def draw_calibration(calibration: pd.DataFrame) -> Figure:
    """Draw the accuracy by the model's confidence, with the number of sentences (columns of calibration.csv)."""
    figure, axes = _make_axes(3.6)
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    axes.plot(calibration["confidence"], calibration["accuracy"], "o-", color=BLUE)
    for row in calibration.itertuples():
        axes.annotate(f"{row.sentences}", (row.confidence, row.accuracy), xytext=(4, -10), textcoords="offset points")
    axes.set(title="Calibration", xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


def draw_mcc_per_source(per_source: pd.DataFrame) -> Figure:
    """Draw the MCC of each of the largest sources (columns of per_source.csv)."""
    sources = select_sources(per_source)
    figure, axes = _make_axes(1 + 0.28 * len(sources))
    names = [f"{shorten(row.source, LONGEST_NAME)} ({row.sentences})" for row in sources.itertuples()]
    rows = range(len(names))[::-1]  # the first row on top
    axes.barh(rows, sources["mcc"], color=BLUE)
    axes.set_yticks(rows, names, parse_math=False)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title="MCC of each source", xlabel="MCC", xlim=(-1, 1), xticks=[-1, 0, 1])
    return figure


def select_sources(per_source: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the MOST_ROWS largest sources, under the names of their publications if they have them."""
    largest = per_source.nlargest(MOST_ROWS, "sentences").sort_index()
    names = largest["publication"].where(largest["publication"] != "", largest["source"])
    return largest.assign(source=names).drop(columns="publication")


def draw_confusion_matrix(predictions: pd.DataFrame) -> Figure:
    """Draw the number of sentences by label and by predicted label (columns of predictions.csv).

    The MOST_ROWS most frequent labels have a row. The others share a row.
    """
    pairs = predictions[["label", "predicted"]]
    by_frequency = pairs.stack().value_counts().index
    names = sorted(by_frequency[:MOST_ROWS])
    if len(by_frequency) > MOST_ROWS:
        names.append(f"{len(by_frequency) - MOST_ROWS:,} others")
        pairs = pairs.where(pairs.isin(names), names[-1])
    counts = pd.crosstab(pairs["label"], pairs["predicted"]).reindex(index=names, columns=names, fill_value=0)
    figure, axes = _make_axes(max(3.6, 0.2 * len(names)))
    axes.imshow(counts, cmap=LinearSegmentedColormap.from_list("", [f"{BLUE}1a", BLUE]))  # transparent to blue
    axes.spines[:].set_visible(False)
    axes.set(title="Confusion matrix", xlabel="predicted", ylabel="label")
    short = [shorten(name, LONGEST_NAME) for name in names]
    axes.set_xticks(range(len(names)), short, parse_math=False, rotation=90 if sum(map(len, short)) > 28 else 0)
    axes.set_yticks(range(len(names)), short, parse_math=False)
    for (row, column), count in np.ndenumerate(counts.to_numpy()):
        axes.text(column, row, f"{count}", ha="center", va="center", fontsize=min(10, 150 / len(names)))
    return figure


def draw_seeds(summary: Mapping[str, Any]) -> Figure:
    """Draw the MCC of each seed, the interval of their mean and the references (contents of seeds.json)."""
    rows = {"these seeds": list(summary["mcc"].values())} | summary["references"]
    figure, axes = _make_axes(1.6 + 0.5 * len(rows))
    for y, mccs in enumerate(rows.values()):
        axes.plot(mccs, y + _spread(mccs), "o", color=ORANGE if y else BLUE, alpha=0.6)
    mean, (low, high) = summary["mean"], summary["confidence_interval"]
    axes.errorbar(mean, -0.3, xerr=[[mean - low], [high - mean]], fmt="|k", capsize=3)
    axes.set(xlabel="test MCC", yticks=range(len(rows)), yticklabels=rows, ylim=(-0.5, len(rows) - 0.5))
    axes.set_title(f"mean {mean:.3f}, 95% interval {low:.3f} to {high:.3f}", fontsize=10)
    return figure


_METHODS = {"pretrained": BLUE, "random_weights": ORANGE, "bag_of_words": GREY}


def draw_data_curve(summary: Mapping[str, Any]) -> Figure:
    """Draw each method's test MCC by the number of training sentences (contents of data_curve.json)."""
    rows = summary["curve"]
    sentences = [row["sentences"] for row in rows]
    figure, axes = _make_axes(3.6)
    for method, color in _METHODS.items():
        mean, low, high = ([row[method][name] for row in rows] for name in ("mean", "low", "high"))
        axes.fill_between(sentences, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(sentences, mean, color=color, label=spell(method))
        for row in rows:
            axes.plot([row["sentences"]] * len(row[method]["mcc"]), row[method]["mcc"], ".", color=color)
    axes.axhline(0, color="black", linewidth=0.8, linestyle=":", label="always the same answer")
    axes.set(xscale="log", title="Test MCC by number of training sentences", xlabel="training sentences", ylabel="MCC")
    axes.set_xticks(sentences, [f"{number:,}" for number in sentences])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="upper left")
    return figure


def draw_mcc_by_epoch(summary: Mapping[str, Any]) -> Figure:
    """Draw the validation MCC after each epoch with all training sentences (contents of data_curve.json)."""
    figure, axes = _make_axes(3.6)
    for curve in summary["epochs"]:
        values = [row["validation_mcc"] for row in curve["rows"]]
        axes.plot(range(1, len(values) + 1), values, "o-", color=_METHODS[curve["way"]], label=spell(curve["way"]))
    axes.axhline(np.mean(summary["bag_of_words_validation_mcc"]), color=GREY, label=spell("bag_of_words"))
    longest = max((curve["rows"] for curve in summary["epochs"]), key=len)
    rows = longest[:: 1 + len(longest) // 10]
    axes.set(title="Validation MCC by epoch", xlabel="epoch, and training time", ylabel="MCC")
    times = [f"{row['epoch']}\n{format_time(row['seconds'])}" for row in rows]
    axes.set_xticks([row["epoch"] for row in rows], times)
    axes.legend(frameon=False)
    return figure


def draw_mcc_by_source(summary: Mapping[str, Any]) -> Figure:
    """Draw each method's MCC on each of the largest sources (contents of data_curve.json)."""
    largest = sorted(summary["sources"], key=lambda row: row["sentences"], reverse=True)[:MOST_ROWS]
    rows = sorted(largest, key=lambda row: row["pretrained"], reverse=True)
    figure, axes = _make_axes(1.3 + 0.28 * len(rows))
    heights = range(len(rows))[::-1]  # the first row on top
    for method, color in _METHODS.items():
        axes.plot([row[method] for row in rows], heights, "o", color=color, label=spell(method))
    names = [f"{shorten(row['source'], LONGEST_NAME)} ({row['sentences']})" for row in rows]
    axes.set_yticks(heights, names, parse_math=False)
    axes.grid(axis="y", alpha=0.3)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title="MCC of each source", xlabel="MCC", xlim=(-1, 1.05), xticks=[-1, 0, 1])
    figure.legend(frameon=False, ncols=3, loc="outside lower center")
    return figure
