"""`make report`: one HTML page of the result in the workspace, with its figures, that opens without a network."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jinja2
import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from cola.core import files, params, paths
from cola.core.errors import run
from cola.data import tutorial
from cola.evaluate import analysis
from cola.report import figures, references, revision, words, workspace
from cola.report.references import describe_recipe

MISTAKES = 20  # that the page shows
WIDTH = 5  # inches of a figure: its text is 10 pixels high on a phone of 390 pixels, 16 on a wide window


RESULT = {
    "source": paths.FINETUNED / "source.json",
    "corpus": paths.CORPUS_METRICS,
    "timings": paths.TIMINGS,
    "history": paths.HISTORY,
    "test": paths.TEST_METRICS,
    "analysis": paths.ANALYSIS,
    "mcc_per_batch": paths.MCC_PER_BATCH,
    "predictions": paths.PREDICTIONS,
    "per_source": paths.PER_SOURCE,
    "calibration": paths.CALIBRATION,
    "samples": paths.SAMPLES,
}
EXPERIMENTS = {"seeds": paths.SEEDS, "data_curve": paths.DATA_CURVE}  # None in a Result: make has not run it


class Result(SimpleNamespace):
    """The files of RESULT and EXPERIMENTS by name, read; and settings (params.yaml) and references."""


class Section(NamedTuple):
    """A heading of the page, and under it a text; then figures and tables, side by side if there is room."""

    heading: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[pd.DataFrame] = ()


def read() -> Result:
    """The result in the workspace. Raises UserError where a file is missing."""
    paths_by_name = RESULT | {name: path for name, path in EXPERIMENTS.items() if path.exists()}
    read_files = {
        name: files.read_csv(path) if path.suffix == ".csv" else files.read_json(path)
        for name, path in paths_by_name.items()
    }
    settings = params.load(paths.PARAMS)
    return Result(**dict.fromkeys(EXPERIMENTS) | read_files, settings=settings, references=references.read())


def render(result: Result, commit: str) -> str:
    """The page of a result, of which the code is at `commit`."""
    environment = jinja2.Environment(
        autoescape=True,
        keep_trailing_newline=True,
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
    )
    compared = references.comparable_and_other_encoders(result.source, result.references)
    environment.filters |= {"svg": svg, "words": words.words}
    return environment.get_template("report.html").render(
        title=tutorial.title(result.source),
        test=result.test,
        analysis=result.analysis,
        comparison_figure=figures.comparison(result.test["mcc"], result.analysis, *compared),
        comparison=references.compare([result.test["mcc"]], result.source, result.references),
        sections=sections(result, commit),
        value=words.value,
    )


def sections(result: Result, commit: str) -> list[Section]:
    """What the page shows of a result, in its order."""
    predictions, timings = result.predictions, result.timings
    trained, validated = (words.clock(timings[name]) for name in ("training_seconds", "validation_seconds"))
    mistakes = analysis.select_mistakes(predictions, MISTAKES)[["sentence", "label", "predicted", "probability"]]
    largest = figures.largest_sources(result.per_source, predictions)
    sources = largest.assign(source=figures.source_names(largest)).drop(columns="publication")
    facts = {
        "corpus": result.source["corpus"]["name"],
        "encoder": result.source["encoder"]["name"],
        "encoder's revision": result.source["encoder"]["revision"],
        "commit": commit,
    }
    return [
        Section(
            "Training log",
            f"Training took {trained} and validation {validated} (minutes:seconds); {timings['device']}, "
            f"{timings['precision']}.",
            [figures.learning_curve(result.history)],
            [result.history],
        ),
        Section("Five sentences", tables=[pd.DataFrame(result.samples)]),
        Section(
            "Confusion and calibration",
            f"Of {len(predictions)} predictions {int(predictions['correct'].sum())} are right. On the dotted line the "
            "model would be right as often as it is sure; the numbers there count sentences.",
            [figures.confusion_matrix(predictions), figures.calibration(result.calibration)],
        ),
        Section("Sources", "In brackets: sentences.", [figures.mcc_per_source(largest)], [sources]),
        Section("Batches", "As the tutorial draws them.", [figures.mcc_per_batch(result.mcc_per_batch)]),
        Section("The surest mistakes", tables=[mistakes]),
        *_seeds(result),
        *_data_curve(result),
        Section("Scores", tables=[_values("test", result.test), _values("how far to trust it", result.analysis)]),
        Section(
            "What was run",
            tables=[
                _values("this run", {**facts, **result.corpus, **result.timings}),
                _values("setting", params.flatten(result.settings)),
            ],
        ),
    ]


def svg(figure: Figure) -> Markup:
    """A figure as an element of a page, in the page's own colour of text."""
    title = figure.axes[0].get_title()
    figure.set_figwidth(WIDTH)
    style = mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title})
    with io.StringIO() as file, style, figures.without_warnings():
        figure.draw_without_rendering()  # chooses ticks and layout, before it is drawn
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        text = file.getvalue()
    text = text[text.index("<svg") :].replace("#000000", "currentColor")
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1))  # noqa: S704 - Matplotlib escapes it


def _seeds(result: Result) -> list[Section]:
    """The section of metrics/seeds.json, if there is one.

    Another experiment may have been applied since: figures of another recipe are not shown.
    """
    if result.seeds is None:
        return []
    if result.seeds.get("recipe") != describe_recipe(result.source, result.settings):
        return [Section("Seeds", _of_another_recipe(paths.SEEDS))]
    return [Section("Seeds", result.seeds["comparison"], [figures.seeds(result.seeds)])]


def _data_curve(result: Result) -> list[Section]:
    """The sections of metrics/data_curve.json, if there is one; as with `_seeds`, of this recipe alone."""
    if (curve := result.data_curve) is None:
        return []
    if curve["recipe"] != [describe_recipe(result.source, result.settings)]:
        return [Section("Data curve", _of_another_recipe(paths.DATA_CURVE))]
    text = "What pretraining is worth: the mean of several seeds (dots), and its 95% interval over the test sentences."
    return [
        Section("Data curve", text, [figures.data_curve(curve), figures.mcc_by_epoch(curve)]),
        Section("Methods", figures=[figures.mcc_by_source_and_method(curve)]),
    ]


def _of_another_recipe(path: Path) -> str:
    return f"{path} is not shown: its corpus, encoder or settings are not those of this result."


def _values(heading: str, values: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each: its name in words, and what it is."""
    rows = [(words.words(name), words.value(name, value)) for name, value in values.items()]
    return pd.DataFrame(rows, columns=[heading, "value"])


def main() -> None:
    result = read()
    workspace.check_one_run()
    files.write_text(paths.REPORT, render(result, revision.describe_commit()))
    print(f"{paths.REPORT.absolute().as_uri()}")


if __name__ == "__main__":
    run(main)
