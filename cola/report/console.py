"""Tables for people. `python -m cola.report.console [REVISION]` prints a run's result again, from its files."""

import io
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cola.core import paths
from cola.core.errors import UserError, run
from cola.data import tutorial

MISTAKES = 5  # that are shown


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
    _print(f"Training: {tutorial.title(source)}", table)


def print_test(scores: Mapping[str, Any], figures: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    """The test MCC with its interval, beside what needs no encoder, the tutorial's, and the public runs'."""
    console = Console(highlight=False)
    console.print(
        f"[bold]Test MCC: {scores['mcc']:.3f}[/]  ({tutorial.title(source)}; {scores['sentences']} sentences)"
    )
    console.print(
        f"  95% interval: {figures['mcc_low']:.3f} to {figures['mcc_high']:.3f}; "
        f"without an encoder (words alone): {figures['bag_of_words_mcc']:.3f}"
    )
    console.print(f"  {tutorial.verdict(source)}")


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
    _print(f"Seeds: {tutorial.title(source)}", table)
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
    _print(f"Predictions: {tutorial.title(source)}", table)


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
