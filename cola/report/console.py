"""Tables for people. `python -m cola.report.console [REVISION]` prints a run's result again, from its files."""

import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cola.core import files, paths
from cola.core.errors import run
from cola.data import tutorial
from cola.report import revision, workspace
from cola.report.references import Reference, compare
from cola.report.references import read as read_references
from cola.report.words import clock, visible, words

MISTAKES = 5  # rows that print_mistakes is given


def print_training(history: pd.DataFrame, source: Mapping[str, Any]) -> None:
    """The tutorial's table, a row per epoch; with times if the frame has training_seconds and validation_seconds."""
    timed = "training_seconds" in history
    headings = ["epoch", "training\nloss", "validation\nloss", "validation\naccuracy", "validation\nMCC"]
    table = empty_table(numbers=[*headings, *(("training\ntime", "validation\ntime") if timed else ())])
    for row in history.itertuples():
        losses = f"{row.training_loss:.3f}", f"{row.validation_loss:.3f}"
        times = (clock(row.training_seconds), clock(row.validation_seconds)) if timed else ()
        table.add_row(f"{row.epoch}", *losses, f"{row.validation_accuracy:.3f}", f"{row.validation_mcc:.3f}", *times)
    _print_table(f"Training: {tutorial.title(source)}", table)


def print_test(
    scores: Mapping[str, Any],
    analysis: Mapping[str, Any],
    source: Mapping[str, Any],
    references: Sequence[Reference],
) -> None:
    """The test MCC with its interval, the MCC of the bag-of-words baseline, and the comparison with references.

    `scores` are those of metrics/test.json, `analysis` those of metrics/analysis.json.
    """
    console = PlainConsole()
    console.print(f"Test MCC: {scores['mcc']:.3f}", style="bold")
    for line in (
        f"{tutorial.title(source)}; {scores['sentences']} sentences",
        f"95% interval: {analysis['mcc_low']:.3f} to {analysis['mcc_high']:.3f}; "
        f"bag-of-words baseline: {analysis['bag_of_words_mcc']:.3f}",
        compare([scores["mcc"]], source, references),
    ):
        _print_phrases(console, line, indent="  ")


def print_mistakes(mistakes: pd.DataFrame) -> None:
    """The wrong predictions of which the model was surest; nothing where there are none."""
    if mistakes.empty:
        return
    table = _predictions_table()
    for row in mistakes.itertuples():
        table.add_row(row.sentence, row.label, row.predicted, f"{row.probability:.2f}")
    _print_table("The surest mistakes", table)


def print_seeds(summary: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    """The test MCC of every seed, and their summary (seeds.summarize)."""
    table = empty_table(numbers=["seed", "test MCC"])
    for seed, mcc in summary["mcc"].items():
        table.add_row(seed, f"{mcc:.3f}")
    _print_table(f"Seeds: {tutorial.title(source)}", table)
    low, high = summary["confidence_interval"]
    console = PlainConsole()
    console.print(f"mean {summary['mean']:.3f}, standard deviation {summary['standard_deviation']:.3f}")
    console.print(f"95% interval of the mean: {low:.3f} to {high:.3f}")
    _print_phrases(console, summary["comparison"])


def print_data_curve(summary: Mapping[str, Any]) -> None:
    """The test MCCs of data_curve.json with their intervals, and when a training passes the bag-of-words baseline."""
    methods = [name for name in summary["curve"][0] if name not in ("sentences", "differences")]
    headings = [words(method).replace(" ", "\n") for method in methods]
    table = empty_table(numbers=["training\nsentences", *headings, "pretrained\nover baseline"])
    for row in summary["curve"]:
        gain = next(pair for pair in row["differences"] if (pair["of"], pair["to"]) == ("pretrained", "bag_of_words"))
        table.add_row(f"{row['sentences']:,}", *map(_show_estimate, [*(row[method] for method in methods), gain]))
    _print_table("Test MCC by number of training sentences, with 95% intervals", table)
    console = PlainConsole()
    console.print("With all of them, the differences between the means:")
    for pair in summary["curve"][-1]["differences"]:
        estimate = _show_estimate(pair).replace("\n", ", ")
        console.print(f"  {words(pair['of'])} over {words(pair['to'])}: {estimate}")
    baseline = sum(summary["bag_of_words_validation_mcc"]) / len(summary["bag_of_words_validation_mcc"])
    console.print(f"With all of them, on validation; the {words('bag_of_words')} has {baseline:.3f}:")
    for curve in summary["epochs"]:
        passed = next((row for row in curve["rows"] if row["validation_mcc"] > baseline), None)
        when = f"better after epoch {passed['epoch']}, {clock(passed['seconds'])}" if passed else "not better"
        last = curve["rows"][-1]
        console.print(
            f"  {words(curve['way'])}: {when}; {last['validation_mcc']:.3f} after epoch {last['epoch']}, "
            f"{clock(last['seconds'])}"
        )


def _show_estimate(estimate: Mapping[str, float]) -> str:
    return f"{estimate['mean']:.3f}\n{estimate['low']:.2f} to {estimate['high']:.2f}"


def print_samples(samples: Sequence[Mapping[str, Any]], source: Mapping[str, Any]) -> None:
    """The sampled test sentences, a row for each: label, prediction, its probability, and whether it is right."""
    table = _predictions_table()
    table.add_column("")
    for sample in samples:
        answer = Text("right", style="green") if sample["correct"] else Text("wrong", style="red")
        texts = sample["sentence"], sample["label"], sample["predicted"]
        table.add_row(*texts, f"{sample['probability']:.2f}", answer)
    _print_table(f"Predictions: {tutorial.title(source)}", table)


class PlainConsole(Console):
    """A console that prints text as it is: [neg] may be a label, :cat: a sentence. Control characters are escaped."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):  # the reader has ended, as in `... | head`: nothing more is printed
            super().on_broken_pipe()


@contextmanager
def only_shown() -> Iterator[None]:
    """Make an error in what only shows a warning: it does not fail a stage that has computed."""
    try:
        yield
    except Exception as error:
        print(f"warning: {str(error) or repr(error)}", file=sys.stderr)


def empty_table(numbers: Iterable[str] = ()) -> Table:
    """An empty table with columns of numbers under these headings."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _predictions_table() -> Table:
    table = empty_table()
    table.add_column("sentence", overflow="fold")
    table.add_column("label")
    table.add_column("predicted")
    table.add_column("probability", justify="right")
    return table


def _print_table(heading: str, table: Table) -> None:
    """Print a table under its heading, which may be wider than the table."""
    console = PlainConsole()
    console.print("")
    console.print(heading, style="bold")
    console.print(table)


def _print_phrases(console: Console, text: str, indent: str = "") -> None:
    """Print a text whose phrases end in '; ' or '. ', as many on a line as the console has room for."""
    line = indent
    for phrase in re.split(r"(?<=[;.]) ", text):
        if line != indent and len(line) + 1 + len(phrase) > console.width:
            console.print(line)
            line = indent
        line += phrase if line == indent else f" {phrase}"
    console.print(line)


def main() -> None:
    """Print the training table, the test MCC and the samples of the workspace, or of a DVC experiment or commit."""
    name = sys.argv[1] if len(sys.argv) > 1 else None
    texts = {
        path: revision.read(path, name)
        for path in (paths.FINETUNED / "source.json", paths.HISTORY, paths.TEST_METRICS, paths.ANALYSIS, paths.SAMPLES)
    }
    if not name:
        workspace.check_one_run()
    source = json.loads(texts[paths.FINETUNED / "source.json"])
    print_training(files.read_csv(io.StringIO(texts[paths.HISTORY])), source)
    print_test(json.loads(texts[paths.TEST_METRICS]), json.loads(texts[paths.ANALYSIS]), source, read_references())
    print_samples(json.loads(texts[paths.SAMPLES]), source)


if __name__ == "__main__":
    run(main)
