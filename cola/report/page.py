"""`make report`: one HTML page of the result in the workspace, with its figures, that opens without a network."""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.report_import_errors()

import io
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
from cola.report import figures, references, revision, words, workspace

MISTAKES = 20  # rows of the table of mistakes
WIDTH = 5  # inches of a figure: its text is 10 pixels high on a phone of 390 pixels, 16 in a wide window


class Section(NamedTuple):
    """A heading of the page and a text, then drawings and tables, side by side if they fit."""

    heading: str
    text: str = ""
    drawings: Sequence[Figure] = ()
    tables: Sequence[pd.DataFrame] = ()


def render(commit: str) -> str:
    """Return the page of the workspace's result. `commit` names its code. Raises UserError if a file is missing."""
    source = files.read_json(paths.FINETUNED / "source.json")
    test, scores = files.read_json(paths.TEST_METRICS), files.read_json(paths.ANALYSIS)
    results = references.read()
    compared = references.split_by_encoder(source, results)
    templates = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    template = jinja2.Environment(autoescape=True, loader=templates).get_template("report.html")
    return template.render(
        title=tutorial.make_title(source),
        test=test,
        analysis=scores,
        comparison=references.compare([test["mcc"]], source, results),
        comparison_figure=figures.draw_comparison(test["mcc"], scores, *compared),
        sections=[*make_sections(), *make_experiment_sections(source), *make_last_sections(source, commit)],
        svg=draw_svg,
        spell=words.spell,
        value=words.format_value,
    )


def make_sections() -> list[Section]:
    """Return the sections of the training and of the test."""
    history, timings = files.read_csv(paths.HISTORY), files.read_json(paths.TIMINGS)
    trained, validated = (words.format_time(timings[name]) for name in ("training_seconds", "validation_seconds"))
    predictions, per_source = files.read_csv(paths.PREDICTIONS), files.read_csv(paths.PER_SOURCE)
    mistakes = analysis.select_mistakes(predictions, MISTAKES)[["sentence", "label", "predicted", "probability"]]
    return [
        Section(
            "Training",
            f"Training took {trained} and validation {validated} (minutes:seconds) on {timings['device']}, "
            f"{timings['precision']}.",
            [figures.draw_learning_curve(history)],
            [history],
        ),
        Section("Five sentences", tables=[pd.DataFrame(files.read_json(paths.SAMPLES))]),
        Section(
            "Confusion matrix and calibration",
            f"{int(predictions['correct'].sum())} of {len(predictions)} predictions are right. "
            "A calibrated model lies on the dotted line. The numbers there count sentences.",
            [figures.draw_confusion_matrix(predictions), figures.draw_calibration(files.read_csv(paths.CALIBRATION))],
        ),
        Section(
            "Sources",
            f"The numbers in brackets count sentences. At most {figures.MOST_ROWS} sources are shown, the largest.",
            [figures.draw_mcc_per_source(per_source)],
            [figures.select_sources(per_source)],
        ),
        Section(
            "Batches",
            "The tutorial draws the test MCC of each batch, too.",
            [figures.draw_mcc_per_batch(files.read_csv(paths.MCC_PER_BATCH))],
        ),
        Section("Mistakes with the highest probability", tables=[mistakes]),
    ]


def make_experiment_sections(source: Mapping[str, Any]) -> list[Section]:
    """Return the sections of metrics/seeds.json and metrics/data_curve.json, if `make` wrote them for this recipe."""
    sections = []
    recipe = references.describe_recipe(source, params.load(paths.PARAMS))
    for heading, path in (("Seeds", paths.SEEDS), ("Data curve", paths.DATA_CURVE)):
        if not path.exists():
            continue
        summary = files.read_json(path)
        is_of_recipe = isinstance(summary, dict) and summary.get("recipe") in (recipe, [recipe])
        if not is_of_recipe:  # another experiment was applied since
            text = f"{path} is not shown: its corpus, encoder or settings are not those of this result."
            sections.append(Section(heading, text))
        elif path == paths.SEEDS:
            sections.append(Section(heading, summary["comparison"], [figures.draw_seeds(summary)]))
        else:
            text = "The lines are means of several seeds (dots). The bands are 95% intervals over the test sentences."
            curves = [figures.draw_data_curve(summary), figures.draw_mcc_by_epoch(summary)]
            sections.append(Section(heading, text, curves))
            sections.append(Section("Methods", drawings=[figures.draw_mcc_by_source(summary)]))
    return sections


def make_last_sections(source: Mapping[str, Any], commit: str) -> list[Section]:
    """Return the sections that list every score, the run's facts and its settings."""
    facts = {
        "corpus": source["corpus"]["name"],
        "encoder": source["encoder"]["name"],
        "encoder's revision": source["encoder"]["revision"],
        "commit": commit,
        **files.read_json(paths.CORPUS_METRICS),
        **files.read_json(paths.TIMINGS),
    }
    scores = tabulate("test", files.read_json(paths.TEST_METRICS))
    trust = tabulate("analysis", files.read_json(paths.ANALYSIS))
    settings = tabulate("setting", params.flatten(params.load(paths.PARAMS)))
    return [
        Section("Scores", tables=[scores, trust]),
        Section("Run", tables=[tabulate("this run", facts), settings]),
    ]


def tabulate(heading: str, values: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table with a row per value: its name and the value, as people read them."""
    rows = [(words.spell(name), words.format_value(name, value)) for name, value in values.items()]
    return pd.DataFrame(rows, columns=[heading, "value"])


def draw_svg(figure: Figure) -> Markup:
    """Return a figure as an element of a page, in the page's own text colour."""
    title = figure.axes[0].get_title()
    figure.set_figwidth(WIDTH)
    style = mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title})
    with io.StringIO() as file, style, figures.without_warnings():
        figure.draw_without_rendering()  # a first pass: the layout depends on the ticks, and they on it
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        text = file.getvalue()
    text = text[text.index("<svg") :].replace("#000000", "currentColor")
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1))  # noqa: S704 - Matplotlib escapes it


def main() -> None:
    workspace.check_one_run()
    files.write_text(paths.REPORT, render(revision.describe_commit()))
    print(paths.REPORT.absolute().as_uri())


if __name__ == "__main__":
    run(main)
