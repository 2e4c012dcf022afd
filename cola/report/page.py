"""`make report`: one HTML page of the result in the workspace, with its figures, that opens without a network."""

import io
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
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
from cola.report import figures, references
from cola.report.recipe import recipe
from cola.report.references import Reference

MISTAKES = 20  # that the page shows


class Result(NamedTuple):
    """The result files of the workspace, read."""

    source: Mapping[str, Any]
    settings: params.Params
    corpus: Mapping[str, Any]
    timings: Mapping[str, Any]
    history: pd.DataFrame
    test: dict[str, Any]
    analysis: dict[str, Any]
    mcc_per_batch: pd.DataFrame
    predictions: pd.DataFrame
    per_source: pd.DataFrame
    calibration: pd.DataFrame
    samples: Sequence[Mapping[str, Any]]
    seeds: Mapping[str, Any] | None  # None: `make seeds` has not run
    references: Sequence[Reference]


class Section(NamedTuple):
    """A heading of the page, and what stands under it, in this order."""

    heading: str
    text: str = ""
    figures: Sequence[Figure] = ()
    table: pd.DataFrame | None = None


def read() -> Result:
    """The result in the workspace. Raises UserError where a file is missing."""
    return Result(
        source=files.read_json(paths.FINETUNED / "source.json"),
        settings=params.load(paths.PARAMS),
        corpus=files.read_json(paths.CORPUS_METRICS),
        timings=files.read_json(paths.TIMINGS),
        history=files.read_csv(paths.HISTORY),
        test=files.read_json(paths.TEST_METRICS),
        analysis=files.read_json(paths.ANALYSIS),
        mcc_per_batch=files.read_csv(paths.MCC_PER_BATCH),
        predictions=files.read_csv(paths.PREDICTIONS),
        per_source=files.read_csv(paths.PER_SOURCE),
        calibration=files.read_csv(paths.CALIBRATION),
        samples=files.read_json(paths.SAMPLES),
        seeds=files.read_json(paths.SEEDS) if paths.SEEDS.exists() else None,
        references=references.read(),
    )


def render(result: Result, commit: str) -> str:
    """The page of a result, of which the code is at `commit`."""
    environment = jinja2.Environment(
        autoescape=True,
        keep_trailing_newline=True,
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["svg"] = svg
    return environment.get_template("report.html").render(
        title=tutorial.title(result.source),
        test=result.test,
        analysis=result.analysis,
        verdict=references.verdict(result.source, result.test["mcc"], result.references),
        sections=sections(result, commit),
    )


def sections(result: Result, commit: str) -> list[Section]:
    """What the page shows of a result, in its order."""
    predictions = result.predictions
    mistakes = analysis.mistakes(predictions, MISTAKES)[["sentence", "label", "predicted", "probability"]]
    return [
        Section("Scores", table=_scores(result.test | result.analysis)),
        Section("Training", figures=[figures.learning_curve(result.history)], table=result.history),
        Section("Five sentences", table=pd.DataFrame(result.samples)),
        Section(
            "What is confused with what, and how sure the model is",
            f"Of its {len(predictions)} predictions {int(predictions['correct'].sum())} are right.",
            [figures.confusion_matrix(predictions), figures.calibration(result.calibration)],
        ),
        Section("Sources", figures=[figures.mcc_per_source(result.per_source)], table=result.per_source),
        Section("Batches", "As the tutorial draws them.", [figures.mcc_per_batch(result.mcc_per_batch)]),
        Section("The surest mistakes", table=mistakes),
        *_seeds(result),
        Section("What was run", table=_facts(result, commit)),
    ]


def svg(figure: Figure) -> Markup:
    """A figure as an element of a page, which draws it in the page's own colour of text."""
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    with io.StringIO() as file, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": figure.axes[0].get_title()}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        text = file.getvalue()
    return Markup(text[text.index("<svg") :].replace("#000000", "currentColor"))  # noqa: S704 - Matplotlib escapes it


def _scores(scores: Mapping[str, Any]) -> pd.DataFrame:
    rows = [(name, f"{value:.3f}" if isinstance(value, float) else str(value)) for name, value in scores.items()]
    return pd.DataFrame(rows, columns=["score", "value"])


def _seeds(result: Result) -> list[Section]:
    """The section of metrics/seeds.json, if there is one.

    Another experiment may have been applied since: figures of another recipe are not shown.
    """
    if result.seeds is None:
        return []
    if result.seeds.get("recipe") != recipe(result.source, result.settings):
        reason = f"{paths.SEEDS} is not shown: its corpus, encoder or settings are not those of this result."
        return [Section("Seeds", reason)]
    return [Section("Seeds", result.seeds["verdict"], [figures.seeds(result.seeds)])]


def _facts(result: Result, commit: str) -> pd.DataFrame:
    facts = {
        "corpus": result.source["corpus"]["name"],
        "encoder": result.source["encoder"]["name"],
        "encoder's revision": result.source["encoder"]["revision"],
        "commit": commit,
        **result.corpus,
        **result.timings,
        **params.flatten(result.settings),
    }
    return pd.DataFrame(facts.items(), columns=["what", "value"]).astype(str)


def _commit() -> str:
    """The commit of the workspace, and whether files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607

    changed = " and what has changed since" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "HEAD") or "none") + changed


def main() -> None:
    files.write_text(paths.REPORT, render(read(), _commit()))
    print(f"{paths.REPORT.absolute().as_uri()}")


if __name__ == "__main__":
    run(main)
