"""Tables and pictures for people. `python -m cola.report [REVISION]` prints a run's result again, from its files."""

import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cola import paths
from cola.errors import UserError, run
from cola.sources import CORPORA, ENCODERS

TUTORIAL_ENCODER = "google-bert/bert-base-uncased"
# Test MCC of the tutorial, and of 26 public runs of its recipe.
TUTORIAL_MCC = 0.498
PUBLIC_RUNS = (
    0.498, 0.513, 0.514, 0.514, 0.519, 0.524, 0.524, 0.525, 0.529, 0.529, 0.535, 0.535, 0.54,
    0.54, 0.545, 0.545, 0.55, 0.55, 0.55, 0.56, 0.56, 0.56, 0.566, 0.571, 0.571, 0.571,
)  # fmt: skip

MISTAKES = 5  # that are shown

BLUE, ORANGE = "#2a6fbb", "#d9782d"


def title(source: Mapping[str, Any]) -> str:
    """'cola, google-bert/bert-base-uncased': the corpus and the encoder of a model's source.json."""
    return f"{source['corpus']['name']}, {source['encoder']['name']}"


def comparable(source: Mapping[str, Any]) -> bool:
    """Whether a test MCC may be held against the tutorial's: its corpus, its encoder, at the pinned revision."""
    encoder = source["encoder"]
    return (
        (source["corpus"]["name"], source["corpus"]["revision"]) == ("cola", CORPORA["cola"].revision)
        and encoder["name"] == TUTORIAL_ENCODER
        and encoder["revision"] == ENCODERS[TUTORIAL_ENCODER].revision
    )


def print_training(history: pd.DataFrame, source: Mapping[str, Any]) -> None:
    """The tutorial's table, a row per epoch; the times where the frame has training_seconds and validation_seconds."""
    timed = "training_seconds" in history
    table = _table()
    for heading in ("epoch", "training\nloss", "validation\nloss", "validation\naccuracy", "validation\nMCC"):
        table.add_column(heading, justify="right")
    for heading in ("training\ntime", "validation\ntime") if timed else ():
        table.add_column(heading, justify="right")
    for row in history.itertuples():
        losses = f"{row.training_loss:.3f}", f"{row.validation_loss:.3f}"
        times = (_clock(row.training_seconds), _clock(row.validation_seconds)) if timed else ()
        table.add_row(f"{row.epoch}", *losses, f"{row.validation_accuracy:.3f}", f"{row.validation_mcc:.3f}", *times)
    _print(f"Training: {title(source)}", table)


def print_test(scores: Mapping[str, Any], figures: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    """The test MCC with its interval, beside what needs no encoder, the tutorial's, and the public runs'."""
    console = Console(highlight=False)
    console.print(f"[bold]Test MCC: {scores['mcc']:.3f}[/]  ({title(source)}; {scores['sentences']} sentences)")
    console.print(
        f"  95% interval: {figures['mcc_low']:.3f} to {figures['mcc_high']:.3f}; "
        f"without an encoder (words alone): {figures['bag_of_words_mcc']:.3f}"
    )
    console.print(f"  {verdict(source)}")


def verdict(source: Mapping[str, Any]) -> str:
    """What a test MCC may be held against."""
    others = (
        f"the tutorial: {TUTORIAL_MCC}; {len(PUBLIC_RUNS)} public runs of its recipe: mean {np.mean(PUBLIC_RUNS):.3f}, "
        f"{min(PUBLIC_RUNS)} to {max(PUBLIC_RUNS)}"
    )
    if comparable(source):
        return f"{others}; comparable: corpus and encoder are the tutorial's own"
    revision = ENCODERS[TUTORIAL_ENCODER].revision
    return f"{others}; not comparable: the tutorial's are cola and {TUTORIAL_ENCODER} at revision {revision}"


def print_mistakes(mistakes: pd.DataFrame) -> None:
    """The mistakes that the model was surest of; nothing where there are none."""
    if mistakes.empty:
        return
    table = _table()
    table.add_column("sentence", overflow="fold")
    table.add_column("label")
    table.add_column("predicted")
    table.add_column("probability", justify="right")
    for row in mistakes.itertuples():
        table.add_row(Text(row.sentence), row.label, row.predicted, f"{row.probability:.2f}")
    _print("The surest mistakes", table)


def print_seeds(found: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    """Each seed's test MCC, and what they say together (seeds.summary)."""
    table = _table()
    table.add_column("seed", justify="right")
    table.add_column("test MCC", justify="right")
    for seed, mcc in found["mcc"].items():
        table.add_row(seed, f"{mcc:.3f}")
    _print(f"Seeds: {title(source)}", table)
    low, high = found["interval"]
    console = Console(highlight=False)
    console.print(f"mean {found['mean']:.3f}, standard deviation {found['standard_deviation']:.3f}")
    console.print(f"95% interval of the mean: {low:.3f} to {high:.3f}")
    console.print(found["verdict"])


def print_samples(samples: Sequence[Mapping[str, Any]], source: Mapping[str, Any]) -> None:
    """The sampled test sentences, a row each: what they are, what the model says, how sure it is."""
    table = _table()
    table.add_column("sentence", overflow="fold")
    table.add_column("label")
    table.add_column("predicted")
    table.add_column("probability", justify="right")
    table.add_column("")
    for sample in samples:
        verdict = "[green]right[/]" if sample["correct"] else "[red]wrong[/]"
        words = Text(sample["sentence"]), sample["label"], sample["predicted"]
        table.add_row(*words, f"{sample['probability']:.2f}", verdict)
    _print(f"Predictions: {title(source)}", table)


def learning_curve(history: pd.DataFrame) -> Figure:
    """Training and validation loss by epoch, in one picture."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(history["epoch"], history["training_loss"], "o-", color=BLUE, label="training")
    axes.plot(history["epoch"], history["validation_loss"], "o-", color=ORANGE, label="validation")
    axes.set(title="Learning curve", xlabel="epoch", ylabel="loss", xticks=history["epoch"])
    axes.legend(frameon=False)
    return figure


def mcc_bars(per_batch: pd.DataFrame) -> Figure:
    """The MCC of each batch of test sentences (columns batch, mcc)."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.bar([str(batch) for batch in per_batch["batch"]], per_batch["mcc"], color=BLUE)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title="MCC of each batch of test sentences", xlabel="batch", ylabel="MCC", ylim=(-1, 1))
    return figure


def reliability(calibration: pd.DataFrame) -> Figure:
    """How often the model is right, by how sure it is (columns sentences, confidence, accuracy)."""
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    axes.plot(calibration["confidence"], calibration["accuracy"], "o-", color=BLUE)
    for row in calibration.itertuples():
        axes.annotate(f"{row.sentences}", (row.confidence, row.accuracy), xytext=(4, -10), textcoords="offset points")
    axes.set(title="Calibration", xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    return figure


def source_bars(per_source: pd.DataFrame) -> Figure:
    """The MCC of each source of sentences (columns source, publication, sentences, mcc)."""
    figure = Figure(figsize=(6, 1 + 0.28 * len(per_source)), layout="constrained")
    axes = figure.subplots()
    names = [
        f"{row.publication or row.source} ({row.sentences})" for row in per_source[::-1].itertuples()
    ]  # the first row on top
    axes.barh(names, per_source["mcc"][::-1], color=BLUE)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title="MCC of each source (sentences)", xlabel="MCC", xlim=(-1, 1))
    return figure


def confusion_matrix(predictions: pd.DataFrame) -> Figure:
    """How often each label was predicted as which (columns label and predicted, by name)."""
    names = sorted({*predictions["label"], *predictions["predicted"]})
    counts = pd.crosstab(predictions["label"], predictions["predicted"]).reindex(
        index=names, columns=names, fill_value=0
    )
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    axes.set(title="Confusion matrix", xlabel="predicted", ylabel="label")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    for (row, column), count in np.ndenumerate(counts.to_numpy()):
        dark = count > counts.to_numpy().max() / 2
        axes.text(column, row, f"{count}", ha="center", va="center", color="#fff" if dark else "#111")
    return figure


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _print(heading: str, table: Table) -> None:
    """Print a table under its heading, which may be wider than the table."""
    Console(highlight=False).print(f"\n[bold]{heading}[/]", table, sep="\n")


def _clock(seconds: float) -> str:
    """75.2 -> '1:15', as the tutorial shows times; below ten seconds with a decimal."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def main() -> None:
    """Print the training table, the test MCC and the samples of the workspace, or of a DVC experiment or commit."""
    import dvc.api  # takes a second: only here
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    revision = sys.argv[1] if len(sys.argv) > 1 else None

    def read(path: Any) -> str:
        try:
            return str(dvc.api.read(path.as_posix(), rev=revision))
        except (OSError, DvcException, SCMError) as error:
            raise UserError(f"{path} is not in {revision or 'the workspace'} ({error}); run `dvc repro`") from None

    source = json.loads(read(paths.FINETUNED / "source.json"))
    print_training(pd.read_csv(io.StringIO(read(paths.HISTORY))), source)
    print_test(json.loads(read(paths.TEST_METRICS)), json.loads(read(paths.ANALYSIS)), source)
    print_samples(json.loads(read(paths.SAMPLES)), source)


if __name__ == "__main__":
    run(main)
