"""Tables for people. `python -m cola.report.console [REVISION]` prints a run's result again, from its files."""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.report_import_errors()

import io
import json
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
from cola.core.errors import discard_output, escape, run
from cola.data import tutorial
from cola.report import revision, workspace
from cola.report.references import Reference, compare
from cola.report.references import read as read_references
from cola.report.words import format_time, shorten, spell

LONGEST_SENTENCE = 300  # characters; a longer text would fill the screen, and metrics/predictions.csv has it whole


def print_training(history: pd.DataFrame, source: Mapping[str, Any]) -> None:
    """Print the tutorial's table, a row per epoch, with times if `history` has them (training_seconds)."""
    headings = ["epoch", "training\nloss", "validation\nloss", "validation\naccuracy", "validation\nMCC"]
    timed = "training_seconds" in history
    table = make_table(numbers=[*headings, "training\ntime", "validation\ntime"] if timed else headings)
    for row in history.itertuples():
        scores = row.training_loss, row.validation_loss, row.validation_accuracy, row.validation_mcc
        times = (row.training_seconds, row.validation_seconds) if timed else ()
        table.add_row(f"{row.epoch}", *(f"{score:.3f}" for score in scores), *map(format_time, times))
    _print_table(f"Training: {tutorial.make_title(source)}", table)


def print_test(
    scores: Mapping[str, Any],
    analysis: Mapping[str, Any],
    source: Mapping[str, Any],
    references: Sequence[Reference],
) -> None:
    """Print the test MCC, its interval, the bag-of-words baseline and the comparison with references.

    `scores` are the contents of metrics/test.json, `analysis` those of metrics/analysis.json.
    """
    console = PlainConsole()
    interval = f"{analysis['mcc_low']:.3f} to {analysis['mcc_high']:.3f}"
    console.print(f"Test MCC: {scores['mcc']:.3f}", style="bold")
    console.print(f"  {tutorial.make_title(source)}; {scores['sentences']} sentences")
    console.print(f"  95% interval: {interval}; bag-of-words baseline: {analysis['bag_of_words_mcc']:.3f}")
    console.print("  " + compare([scores["mcc"]], source, references).replace("; ", ";\n  "))


def print_seeds(summary: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    """Print the test MCC of every seed, and their summary (seeds.summarize)."""
    table = make_table(numbers=["seed", "test MCC"])
    for seed, mcc in summary["mcc"].items():
        table.add_row(seed, f"{mcc:.3f}")
    _print_table(f"Seeds: {tutorial.make_title(source)}", table)
    low, high = summary["confidence_interval"]
    console = PlainConsole()
    console.print(f"mean {summary['mean']:.3f}, standard deviation {summary['standard_deviation']:.3f}")
    console.print(f"95% interval of the mean: {low:.3f} to {high:.3f}")
    console.print(summary["comparison"].replace("; ", ";\n"))


def print_data_curve(summary: Mapping[str, Any]) -> None:
    """Print the test MCCs of data_curve.json with their intervals, and the epoch that passes the baseline."""
    methods = [name for name in summary["curve"][0] if name not in ("sentences", "differences")]
    headings = [spell(method).replace(" ", "\n") for method in methods]
    table = make_table(numbers=["training\nsentences", *headings, "pretrained\nover baseline"])
    for row in summary["curve"]:
        gain = next(pair for pair in row["differences"] if (pair["of"], pair["to"]) == ("pretrained", "bag_of_words"))
        table.add_row(f"{row['sentences']:,}", *map(_format_estimate, [*(row[method] for method in methods), gain]))
    _print_table("Test MCC by number of training sentences, with 95% intervals", table)
    console = PlainConsole()
    console.print("With all training sentences, the means differ by:")
    for pair in summary["curve"][-1]["differences"]:
        estimate = _format_estimate(pair).replace("\n", ", ")
        console.print(f"  {spell(pair['of'])} over {spell(pair['to'])}: {estimate}")
    baseline = sum(summary["bag_of_words_validation_mcc"]) / len(summary["bag_of_words_validation_mcc"])
    console.print(f"With all training sentences, the baseline's validation MCC is {baseline:.3f}:")
    for curve in summary["epochs"]:
        passed = next((row for row in curve["rows"] if row["validation_mcc"] > baseline), None)
        when = f"better after epoch {passed['epoch']}, {format_time(passed['seconds'])}" if passed else "not better"
        last = curve["rows"][-1]
        end = f"{last['validation_mcc']:.3f} after epoch {last['epoch']}, {format_time(last['seconds'])}"
        console.print(f"  {spell(curve['way'])}: {when}; {end}")


def _format_estimate(estimate: Mapping[str, float]) -> str:
    return f"{estimate['mean']:.3f}\n{estimate['low']:.2f} to {estimate['high']:.2f}"


def print_predictions(heading: str, predictions: Sequence[Mapping[str, Any]]) -> None:
    """Print predictions, a row each; nothing for an empty list. They have the keys of metrics/samples.json."""
    if not predictions:
        return
    table = make_table()
    for column in ("sentence", "label", "predicted"):
        table.add_column(column, overflow="fold")
    table.add_column("probability", justify="right")
    table.add_column("")
    for row in predictions:
        answer = Text("right", style="green") if row["correct"] else Text("wrong", style="red")
        table.add_row(
            shorten(row["sentence"], LONGEST_SENTENCE),
            row["label"],
            row["predicted"],
            f"{row['probability']:.2f}",
            answer,
        )
    _print_table(heading, table)


class PlainConsole(Console):
    """A console that prints text as it is: [neg] may be a label, :cat: a sentence. Control characters are escaped."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str("\n".join(map(escape, text.split("\n"))), **options)

    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):  # the reader has ended, as in `... | head`: print nothing more
            super().on_broken_pipe()


@contextmanager
def errors_as_warnings() -> Iterator[None]:
    """Turn an error into a warning: a stage that has computed does not fail because it cannot print."""
    try:
        yield
        sys.stdout.flush()
    except Exception as error:
        if isinstance(error, OSError):
            discard_output()
        print(f"warning: {str(error) or repr(error)}", file=sys.stderr)


def make_table(numbers: Iterable[str] = ()) -> Table:
    """Return an empty table with columns of numbers under these headings."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _print_table(heading: str, table: Table) -> None:
    console = PlainConsole()
    console.print("")
    console.print(heading, style="bold")  # rich would fold a table's own title to the width of the table
    console.print(table)


def main() -> None:
    """Print the training table, the test MCC and the samples of the workspace, or of a DVC experiment or commit."""
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if not name:
        workspace.check_one_run()
    source, test, analysis, samples = (
        json.loads(revision.read(path, name))
        for path in (paths.FINETUNED / "source.json", paths.TEST_METRICS, paths.ANALYSIS, paths.SAMPLES)
    )
    history = files.read_csv(io.StringIO(revision.read(paths.HISTORY, name)))
    print_training(history, source)
    print_test(test, analysis, source, read_references())
    print_predictions(f"Predictions: {tutorial.make_title(source)}", samples)


if __name__ == "__main__":
    run(main)
