"""The figures of a result, drawn with Matplotlib.

Names that come from a corpus are drawn with parse_math=False: Matplotlib takes what is between two $ for a formula.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

BLUE, ORANGE = "#2a6fbb", "#d9782d"


def learning_curve(history: pd.DataFrame) -> Figure:
    """Training and validation loss by epoch (columns epoch, training_loss, validation_loss)."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(history["epoch"], history["training_loss"], "o-", color=BLUE, label="training")
    axes.plot(history["epoch"], history["validation_loss"], "o-", color=ORANGE, label="validation")
    axes.set(title="Learning curve", xlabel="epoch", ylabel="loss", xticks=history["epoch"])
    axes.legend(frameon=False)
    return figure


def mcc_per_batch(per_batch: pd.DataFrame) -> Figure:
    """The MCC of each batch of test sentences (columns batch, mcc)."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.bar([str(batch) for batch in per_batch["batch"]], per_batch["mcc"], color=BLUE)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title="MCC of each batch of test sentences", xlabel="batch", ylabel="MCC", ylim=(-1, 1))
    return figure


def calibration(calibration: pd.DataFrame) -> Figure:
    """How often the model is right, by how sure it is (columns sentences, confidence, accuracy)."""
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    axes.plot(calibration["confidence"], calibration["accuracy"], "o-", color=BLUE)
    for row in calibration.itertuples():
        axes.annotate(f"{row.sentences}", (row.confidence, row.accuracy), xytext=(4, -10), textcoords="offset points")
    axes.set(title="Calibration", xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


def mcc_per_source(per_source: pd.DataFrame) -> Figure:
    """The MCC of each source of sentences (columns source, publication, sentences, mcc)."""
    figure = Figure(figsize=(6, 1 + 0.28 * len(per_source)), layout="constrained")
    axes = figure.subplots()
    names = [f"{row.publication or row.source} ({row.sentences})" for row in per_source.itertuples()]
    places = range(len(names))[::-1]  # the first row on top
    axes.barh(places, per_source["mcc"], color=BLUE)
    axes.set_yticks(places, names, parse_math=False)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title="MCC of each source (sentences)", xlabel="MCC", xlim=(-1, 1))
    return figure


def confusion_matrix(predictions: pd.DataFrame) -> Figure:
    """The number of sentences by label and by predicted label (columns label and predicted, by name)."""
    names = sorted({*predictions["label"], *predictions["predicted"]})
    counts = pd.crosstab(predictions["label"], predictions["predicted"]).reindex(
        index=names, columns=names, fill_value=0
    )
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    axes.set(title="Confusion matrix", xlabel="predicted", ylabel="label")
    axes.set_xticks(range(len(names)), names, parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    for (row, column), count in np.ndenumerate(counts.to_numpy()):
        dark = count > counts.to_numpy().max() / 2
        axes.text(column, row, f"{count}", ha="center", va="center", color="#fff" if dark else "#111")
    return figure


def seeds(summary: Mapping[str, Any]) -> Figure:
    """The MCC of every seed and the interval of their mean, of seeds.summary, and what they compare with."""
    rows = {"these seeds": list(summary["mcc"].values())} | summary["references"]
    figure = Figure(figsize=(6, 1.6 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, values in enumerate(rows.values()):
        spread = np.linspace(-0.12, 0.12, len(values))  # dots of like value side by side
        axes.plot(values, place + spread, "o", color=ORANGE if place else BLUE, alpha=0.6)
    mean, (low, high) = summary["mean"], summary["confidence_interval"]
    axes.errorbar(mean, -0.3, xerr=[[mean - low], [high - mean]], fmt="|k", capsize=3)
    axes.set(xlabel="test MCC", yticks=range(len(rows)), yticklabels=rows, ylim=(-0.5, len(rows) - 0.5))
    axes.set_title(f"mean {mean:.3f}, 95% interval {low:.3f} to {high:.3f}", fontsize=10)
    return figure
