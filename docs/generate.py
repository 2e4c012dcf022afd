"""Write the parts of the documents that show results: `make docs`. With --check, compare them and write nothing.

Such a part stands between two comments. The first one names a function of OUTPUTS or TABLES and its arguments:

    <!-- output: result demo -->
    <!-- end of output -->

An output is what a command prints, a table is Markdown. People write the rest of each document.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import sizes
from benchmarks.proofs import outcome, step, trajectory
from cola.core import files, paths
from cola.core.errors import UserError, run
from cola.data import tutorial
from cola.report import console, references
from cola.report.words import format_time

BLOCK = re.compile(r"<!-- (output|table): (\S+)(.*?) -->\n(.*?)<!-- end of \1 -->", re.DOTALL)
BLOCK_START = re.compile(r"<!-- (?:output|table): ")
BENCHMARKS = Path("benchmarks/results")
FOUR_EPOCHS = BENCHMARKS / "four_epochs.csv"  # seconds that the four epochs on CoLA took
TUTORIAL, PIPELINE = "the tutorial's loop", "bert-cola"  # as the files in BENCHMARKS name them


def main() -> None:
    # Rich prints as on a terminal of 80 columns, without colours.
    os.environ.update(COLUMNS="80", FORCE_COLOR="")
    check = "--check" in sys.argv
    stale = []
    for document in (Path("README.md"), Path("CONTRIBUTING.md"), *sorted(Path("docs").glob("*.md"))):
        text = document.read_text(encoding="utf-8")
        new_text, changes = write_blocks(text, str(document))
        stale += [f"{document} ({change})" for change in changes]
        if changes and not check:
            files.write_text(document, new_text)
    if stale and check:
        raise UserError(f"documents do not show the results as they are: {', '.join(stale)}; run `make docs`")
    print("\n".join(f"written: {name}" for name in stale) or "the documents show the results as they are")


def write_blocks(text: str, document: str) -> tuple[str, list[str]]:
    """Return the text with its blocks written, and the names of the blocks that changed.

    Raises UserError, which names the document, if a block has no end or an unknown function.
    """
    changes = []

    def write_block(match: re.Match[str]) -> str:
        kind, function, arguments, old = match.groups()
        if kind == "output" and function in OUTPUTS:
            new = format_output(OUTPUTS[function], arguments.split())
        elif kind == "table" and function in TABLES:
            new = format_table(TABLES[function], arguments.split())
        else:
            raise UserError(f"{document}: no {kind} has the name {function}: see the end of docs/generate.py")
        if new != old:
            changes.append(f"{function}{arguments}")
        return f"<!-- {kind}: {function}{arguments} -->\n{new}<!-- end of {kind} -->"

    if len(BLOCK.findall(text)) != len(BLOCK_START.findall(text)):
        raise UserError(f"{document}: a block has no end: add the line <!-- end of output --> or <!-- end of table -->")
    return BLOCK.sub(write_block, text), changes


def format_output(function: Callable[..., None], arguments: Sequence[str]) -> str:
    """Return what the function prints, as a block of code."""
    with redirect_stdout(io.StringIO()) as printed:
        function(*arguments)
    lines = "\n".join(line.rstrip() for line in printed.getvalue().splitlines()).strip("\n")
    return f"```\n{lines}\n```\n"


def format_table(function: Callable[..., Iterator[Sequence[str]]], arguments: Sequence[str]) -> str:
    """Return the function's rows as a table in Markdown. The first row has the headings."""
    headings, *rows = function(*arguments)
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def print_result(reference: str) -> None:
    """Print what `python -m cola.report.console` prints of the run in metrics/reference/REFERENCE/."""
    folder = paths.REFERENCE / reference
    source, test, analysis, samples = (
        files.read_json(folder / f"{name}.json") for name in ("source", "test", "analysis", "samples")
    )
    console.print_training(files.read_csv(folder / "history.csv"), source)
    console.print_test(test, analysis, source, references.read())
    console.print_predictions(f"Predictions: {tutorial.make_title(source)}", samples)


def print_data_curve(name: str) -> None:
    console.print_data_curve(files.read_json(paths.REFERENCE / "data_curve" / f"{name}.json"))


def tabulate_references() -> Iterator[Sequence[str]]:
    """Yield a row for each file of metrics/reference/."""
    yield "result", "encoder", "runs", "test MCC", "standard deviation", "four epochs (minutes:seconds)"
    times = {row.result: f"{format_time(row.seconds)}, {row.machine}" for row in _read_times()}
    for reference in references.read():
        mccs, encoder = reference.mccs, Path(reference.source["encoder"]["name"]).name
        deviation = f"{np.std(mccs, ddof=1):.3f}" if len(mccs) > 1 else ""
        time = times.get(reference.name.partition(" here,")[0], "")
        yield reference.name, encoder, str(len(mccs)), f"{np.mean(mccs):.3f}", deviation, time


def tabulate_times() -> Iterator[Sequence[str]]:
    """Yield a row for each training of four epochs on CoLA."""
    yield "encoder", "machine", "minutes:seconds", ""
    for row in _read_times():
        yield row.encoder, row.machine, format_time(row.seconds), row.source


def _read_times() -> Iterator[Any]:
    return files.read_csv(FOUR_EPOCHS).itertuples()


def tabulate_speed(part: str, machine: str) -> Iterator[Sequence[str]]:
    """Yield a row for each encoder of a benchmark, part "training" or "prediction"."""
    benchmark = files.read_json(BENCHMARKS / f"{machine}.json")
    encoders = benchmark[part]
    yield f"{part}, {_name_machine(benchmark)}", *next(iter(encoders.values()))
    for encoder, methods in encoders.items():
        yield encoder, *(_format_speed(name, method, methods[PIPELINE]["seconds"]) for name, method in methods.items())


def _name_machine(benchmark: Mapping[str, Any]) -> str:
    return str(benchmark["machine"]).replace("(R)", "")


def _format_speed(name: str, method: Mapping[str, float], pipeline_seconds: float) -> str:
    seconds = _format_seconds(method["seconds"])
    if name == PIPELINE:
        return f"**{seconds}**"
    if name == "roofline":
        return f"{seconds} ({method['seconds'] / pipeline_seconds:.0%})"
    return f"{seconds} ({method['ratio']:.1f})"


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 0.1 else f"{seconds:.2g}"


def tabulate_tutorial() -> Iterator[Sequence[str]]:
    """Yield what the tutorial's loop and this pipeline reach, and how long a step of each takes."""
    yield "", TUTORIAL, "this pipeline"
    mccs = files.read_csv(outcome.RESULTS).groupby("method")["test_mcc"].agg(["mean", "count"])
    name = f"mean test MCC, {mccs['count'][PIPELINE]} seeds of MiniLM on CoLA"
    yield name, f"{mccs['mean']['tutorial']:.3f}", f"{mccs['mean'][PIPELINE]:.3f}"
    for path in sorted(BENCHMARKS.glob("*.json")):
        benchmark = files.read_json(path)
        methods = benchmark["training"]["bert-base-uncased"]
        times = f"{_format_seconds(methods[TUTORIAL]['seconds'])} s ({methods[TUTORIAL]['ratio']:.1f} times)"
        name = f"a step (BERT-base), {_name_machine(benchmark)}"
        yield name, times, f"{_format_seconds(methods[PIPELINE]['seconds'])} s"


def tabulate_outcome(method: str = PIPELINE, rows: slice = slice(None)) -> Iterator[Sequence[str]]:
    """Yield the tests of equivalence of benchmarks/proofs/outcome.py, or these `rows` of them."""
    yield "mean (standard deviation)", TUTORIAL, method, "difference, 90% interval", "margin", "equal"
    results = files.read_csv(outcome.RESULTS)
    for column, *cells in outcome.compare_with_tutorial(results, method)[rows].itertuples(index=False):
        yield re.sub(r" (\d)$", r", epoch \1", column.replace("_", " ")).replace("mcc", "MCC"), *cells


def tabulate_steps() -> Iterator[Sequence[str]]:
    """Yield the deviations of a step of each encoder's shape, from benchmarks/proofs/step.py."""
    encoders = files.read_csv(step.RESULTS).groupby("encoder", sort=False)
    (_, first), *_ = encoders
    machine = first["machine"].iloc[0]
    yield f"loss, gradient; {machine}", *(f"{row.method}, {row.precision}" for row in first.itertuples())
    for encoder, rows in encoders:
        yield str(encoder), *(f"{row.loss:.1e}, {row.gradient:.1e}" for row in rows.itertuples())


def tabulate_trajectory() -> Iterator[Sequence[str]]:
    """Yield the losses and weights of the two trainings of benchmarks/proofs/trajectory.py."""
    results = files.read_csv(trajectory.RESULTS).iloc[0]
    yield f"{trajectory.STEPS} steps in float32", str(results.pop("machine"))
    for name, value in results.items():
        yield str(name).replace("_", " "), str(value)


def tabulate_memory() -> Iterator[Sequence[str]]:
    """Yield the peak memory of a step of each encoder of benchmarks/sizes.py."""
    measured, encoders = sizes.read_results(), sizes.PICTURES["encoder"]
    yield f"BERT; {files.read_csv(sizes.RESULTS)['machine'][0]}", *map(str, encoders)
    yield "memory", *(f"{measured[case].peak_gib:.1f} GiB" for case in encoders.values())


def tabulate_micro_batches() -> Iterator[Sequence[str]]:
    """Yield the peak memory of a step by length of sentences and train.micro_batch_tokens."""
    measured = sizes.read_results()
    yield "mean sentence", "whole batch", *(f"{tokens} tokens" for tokens in sizes.MICRO_BATCHES[1:])
    for case in [case for case in sizes.MEMORY if not case.micro_batch_tokens]:
        costs = [measured[case._replace(micro_batch_tokens=tokens)] for tokens in sizes.MICRO_BATCHES]
        yield f"{case.length * sizes.TOKENS:.0f} tokens", *(f"{cost.peak_gib:.1f} GiB" for cost in costs)


OUTPUTS: dict[str, Callable[..., None]] = {"result": print_result, "data-curve": print_data_curve}
TABLES: dict[str, Callable[..., Iterator[Sequence[str]]]] = {
    "references": tabulate_references,
    "speed": tabulate_speed,
    "times": tabulate_times,
    "tutorial": tabulate_tutorial,
    "steps": tabulate_steps,
    "trajectory": tabulate_trajectory,
    "memory": tabulate_memory,
    "micro-batches": tabulate_micro_batches,
    "outcome": tabulate_outcome,
    "outcome-float16": partial(tabulate_outcome, f"{PIPELINE}, float16", slice(-4, None)),  # after the last epoch
}


if __name__ == "__main__":
    run(main)
