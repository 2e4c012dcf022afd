"""The figures of a result, drawn with Matplotlib.

Names that come from a corpus are drawn with parse_math=False: Matplotlib takes what is between two $ for a formula.
"""

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
from cola.report.references import Reference, prediction_interval
from cola.report.words import clock, words

BLUE, ORANGE, GREY = "#3b7fcb", "#d9782d", "#7a7a7a"  # each stands out from white and from black

SHOWN = 30  # sources or labels: a picture has no row for each of thousands


def _axes(height: float) -> tuple[Figure, Axes]:
    """A figure of 6 by `height` inches, and its axes."""
    figure = Figure(figsize=(6, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _short(name: str) -> str:
    """A name that leaves room for the figure beside it."""
    return name if len(name) <= 24 else f"{name[:23]}…"


def comparison(
    mcc: float, analysis: Mapping[str, Any], comparable: Sequence[Reference], others: Sequence[Reference]
) -> Figure:
    """A test MCC with its interval, and what it compares with, a row each on one axis.

    `analysis` has mcc_low, mcc_high and bag_of_words_mcc. A dot is a run, a stroke the mean of several, and the bar
    behind them where one more would lie. `others`, of other encoders, are drawn in grey, under a heading of their own.
    """
    low, high = analysis["mcc_low"], analysis["mcc_high"]
    figure, axes = _axes(3)
    axes.axvspan(low, high, color=BLUE, alpha=0.12, linewidth=0)
    axes.plot([low, high], [0, 0], color=BLUE, alpha=0.6, linewidth=3)
    _row(axes, 0, "this run and its 95% interval", [mcc], BLUE, high, fontweight="bold")
    _row(axes, 1, "bag-of-words baseline, without an encoder", [analysis["bag_of_words_mcc"]], "black")
    place = 1.0
    for reference in comparable:
        place += 1
        _row(axes, place, reference.name, reference.mccs, "black")
    if others:
        place += 0.5
        _label(axes, place + 0.25, "with another encoder, not comparable:", fontstyle="italic")
    for reference in others:
        place += 1
        encoder = Path(reference.source["encoder"]["name"]).name
        name = reference.name if encoder in reference.name else f"{reference.name}, {encoder}"
        _row(axes, place, name, reference.mccs, GREY)
    if any(len(reference.mccs) > 1 for reference in (*comparable, *others)):
        axes.set_xlabel("a dot: a run; a stroke: their mean;\na bar: where one more run may lie", loc="left")
    left, right = axes.get_xlim()
    left = min(left, -0.03)
    axes.set(title="Test MCC", xlim=(left, right + 0.12 * (right - left)), ylim=(place + 0.4, -0.7), yticks=[])
    axes.spines["left"].set_visible(False)
    figure.set_figheight(1.3 + 0.48 * place)
    return figure


def _row(
    axes: Axes, place: float, name: str, mccs: Sequence[float], color: str, end: float | None = None, **font: Any
) -> None:
    """Draw runs in a row of a comparison: their name above them, and behind them, or behind `end`, their mean."""
    _label(axes, place - 0.25, name, **font)
    mean, end = float(np.mean(mccs)), max(mccs) if end is None else end
    if len(mccs) > 1:
        low, high = prediction_interval(mccs)
        axes.plot([low, high], [place, place], color=color, alpha=0.2, linewidth=12, solid_capstyle="butt")
        axes.plot([mean, mean], [place - 0.2, place + 0.2], color=color, linewidth=2)
        end = max(end, high)
    spread = np.linspace(-0.12, 0.12, len(mccs)) * (len(mccs) > 1)  # dots of like value side by side
    axes.plot(mccs, place + spread, "o", color=color, alpha=0.7 if len(mccs) > 1 else 1)
    axes.annotate(f"{mean:.3f}", (end, place), (7, 0), textcoords="offset points", va="center", **font)


def _label(axes: Axes, bottom: float, text: str, **font: Any) -> None:
    """Write at the left of a comparison, under a line from side to side."""
    axes.axhline(bottom - 0.43, color=GREY, alpha=0.4, linewidth=0.6)
    label = axes.text(0, bottom, text, transform=axes.get_yaxis_transform(), va="bottom", parse_math=False, **font)
    label.set_in_layout(False)  # else a long name would take the width of the axes


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG of 100 dots an inch."""
    with files.atomic_file(path) as partial, without_warnings():
        figure.savefig(partial, format="png", dpi=100)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Draw a letter that the font lacks as a box: Matplotlib warns of each one of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def learning_curve(history: pd.DataFrame) -> Figure:
    """Training and validation loss by epoch (columns epoch, training_loss, validation_loss)."""
    figure, axes = _axes(3.6)
    axes.plot(history["epoch"], history["training_loss"], "o-", color=BLUE, label="training")
    axes.plot(history["epoch"], history["validation_loss"], "o-", color=ORANGE, label="validation")
    axes.set(title="Learning curve", xlabel="epoch", ylabel="loss", xticks=history["epoch"][:: 1 + len(history) // 10])
    axes.legend(frameon=False)
    return figure


def mcc_per_batch(per_batch: pd.DataFrame) -> Figure:
    """The MCC of each batch of test sentences (columns batch, mcc)."""
    figure, axes = _axes(3.6)
    axes.bar(per_batch["batch"], per_batch["mcc"], color=BLUE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title="MCC of each batch", xlabel="batch", ylabel="MCC", ylim=(-1, 1))
    return figure


def calibration(calibration: pd.DataFrame) -> Figure:
    """How often the model is right, by how sure it is (columns sentences, confidence, accuracy)."""
    figure, axes = _axes(3.6)
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    axes.plot(calibration["confidence"], calibration["accuracy"], "o-", color=BLUE)
    for row in calibration.itertuples():
        axes.annotate(f"{row.sentences}", (row.confidence, row.accuracy), xytext=(4, -10), textcoords="offset points")
    axes.set(title="Calibration", xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


def mcc_per_source(per_source: pd.DataFrame) -> Figure:
    """The MCC of each source of sentences (columns source, publication, sentences, mcc)."""
    figure, axes = _axes(1 + 0.28 * len(per_source))
    counts = zip(source_names(per_source), per_source["sentences"], strict=True)
    names = [f"{_short(name)} ({count})" for name, count in counts]
    places = range(len(names))[::-1]  # the first row on top
    axes.barh(places, per_source["mcc"], color=BLUE)
    axes.set_yticks(places, names, parse_math=False)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title="MCC of each source", xlabel="MCC", xlim=(-1, 1), xticks=[-1, 0, 1])
    return figure


def largest_sources(per_source: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of per_source.csv; where they are many, the SHOWN largest and a row for the others together.

    `predictions` are the rows of predictions.csv.
    """
    if len(per_source) <= SHOWN:
        return per_source
    from cola.evaluate import analysis  # takes a second: only here

    largest = per_source.nlargest(SHOWN, "sentences").sort_index()
    others = predictions[~predictions["sentence_source"].isin(largest["source"])]
    others = others.assign(sentence_source=f"{len(per_source) - SHOWN:,} others")
    return pd.concat([largest, analysis.score_sources(others, others["predicted"].to_numpy())])


def source_names(per_source: pd.DataFrame) -> pd.Series:
    """The publication of each source, or the source where there is none ("")."""
    return per_source["publication"].where(per_source["publication"] != "", per_source["source"])


def confusion_matrix(predictions: pd.DataFrame) -> Figure:
    """The number of sentences by label and by predicted label (columns label and predicted, by name).

    Where labels are many, the SHOWN most frequent have rows of their own, and the others have one together.
    """
    pairs = predictions[["label", "predicted"]]
    by_frequency = pairs.stack().value_counts().index
    names = sorted(by_frequency[:SHOWN])
    if len(by_frequency) > SHOWN:
        names.append(f"{len(by_frequency) - SHOWN:,} others")
        pairs = pairs.where(pairs.isin(names), names[-1])
    counts = pd.crosstab(pairs["label"], pairs["predicted"]).reindex(index=names, columns=names, fill_value=0)
    figure, axes = _axes(max(3.6, 0.2 * len(names)))
    axes.imshow(counts, cmap=LinearSegmentedColormap.from_list("", [f"{BLUE}1a", BLUE]))  # see-through to blue
    axes.spines[:].set_visible(False)
    axes.set(title="Confusion matrix", xlabel="predicted", ylabel="label")
    short = [_short(name) for name in names]
    axes.set_xticks(range(len(names)), short, parse_math=False, rotation=90 if sum(map(len, short)) > 28 else 0)
    axes.set_yticks(range(len(names)), short, parse_math=False)
    for (row, column), count in np.ndenumerate(counts.to_numpy()):
        axes.text(column, row, f"{count}", ha="center", va="center", fontsize=min(10, 150 / len(names)))
    return figure


def seeds(summary: Mapping[str, Any]) -> Figure:
    """The MCC of every seed and the interval of their mean, of seeds.summarize, and what they compare with."""
    rows = {"these seeds": list(summary["mcc"].values())} | summary["references"]
    figure, axes = _axes(1.6 + 0.5 * len(rows))
    for place, values in enumerate(rows.values()):
        spread = np.linspace(-0.12, 0.12, len(values))  # dots of like value side by side
        axes.plot(values, place + spread, "o", color=ORANGE if place else BLUE, alpha=0.6)
    mean, (low, high) = summary["mean"], summary["confidence_interval"]
    axes.errorbar(mean, -0.3, xerr=[[mean - low], [high - mean]], fmt="|k", capsize=3)
    axes.set(xlabel="test MCC", yticks=range(len(rows)), yticklabels=rows, ylim=(-0.5, len(rows) - 0.5))
    axes.set_title(f"mean {mean:.3f}, 95% interval {low:.3f} to {high:.3f}", fontsize=10)
    return figure


_METHODS = {"pretrained": BLUE, "random_weights": ORANGE, "bag_of_words": GREY}


def data_curve(summary: Mapping[str, Any]) -> Figure:
    """The test MCC of each method by the number of training sentences, of data_curve.json; a dot is a seed."""
    rows = summary["curve"]
    sentences = [row["sentences"] for row in rows]
    figure, axes = _axes(3.6)
    for method, color in _METHODS.items():
        mean, low, high = ([row[method][name] for row in rows] for name in ("mean", "low", "high"))
        axes.fill_between(sentences, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(sentences, mean, color=color, label=words(method))
        for row in rows:
            axes.plot([row["sentences"]] * len(row[method]["mcc"]), row[method]["mcc"], ".", color=color)
    axes.axhline(0, color="black", linewidth=0.8, linestyle=":", label="always the same answer")
    axes.set(xscale="log", title="Test MCC by number of training sentences", xlabel="training sentences", ylabel="MCC")
    axes.set_xticks(sentences, [f"{number:,}" for number in sentences])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="upper left")
    return figure


def mcc_by_epoch(summary: Mapping[str, Any]) -> Figure:
    """The validation MCC after each epoch, of data_curve.json, with all training sentences."""
    figure, axes = _axes(3.6)
    for curve in summary["epochs"]:
        values = [row["validation_mcc"] for row in curve["rows"]]
        axes.plot(range(1, len(values) + 1), values, "o-", color=_METHODS[curve["way"]], label=words(curve["way"]))
    axes.axhline(np.mean(summary["bag_of_words_validation_mcc"]), color=GREY, label=words("bag_of_words"))
    rows = summary["epochs"][0]["rows"]
    axes.set(title="Validation MCC by epoch", xlabel="epoch, and time of training", ylabel="MCC")
    axes.set_xticks(*zip(*((row["epoch"], f"{row['epoch']}\n{clock(row['seconds'])}") for row in rows), strict=True))
    axes.legend(frameon=False)
    return figure


def mcc_by_source_and_method(summary: Mapping[str, Any]) -> Figure:
    """The MCC of each method on each source of test sentences, of data_curve.json, with all training sentences."""
    largest = sorted(summary["sources"], key=lambda row: row["sentences"], reverse=True)[:SHOWN]
    rows = sorted(largest, key=lambda row: row["pretrained"], reverse=True)
    figure, axes = _axes(1.3 + 0.28 * len(rows))
    places = range(len(rows))[::-1]  # the first row on top
    for method, color in _METHODS.items():
        axes.plot([row[method] for row in rows], places, "o", color=color, label=words(method))
    names = [f"{_short(words(row['source']))} ({row['sentences']})" for row in rows]
    axes.set_yticks(places, names, parse_math=False)
    axes.grid(axis="y", alpha=0.3)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title="MCC of each source", xlabel="MCC", xlim=(-1, 1.05), xticks=[-1, 0, 1])
    figure.legend(frameon=False, ncols=3, loc="outside lower center")
    return figure
