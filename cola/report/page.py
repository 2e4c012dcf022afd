"""`make report`: one HTML page of the result in the workspace, pictures and all, that opens without a network."""

import io
import subprocess

import jinja2
import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from cola.core import files, params, paths
from cola.core.errors import run
from cola.data import tutorial
from cola.evaluate import analysis

MISTAKES = 20  # that the page shows
_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, p { overflow-wrap: anywhere; } h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
.figure { font-size: 2.5rem; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
svg { max-width: 100%; height: auto; } svg text { fill: currentColor; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p><span class="figure">{{ "%.3f" | format(test.mcc) }}</span> test MCC of {{ test.sentences }} sentences, 95% interval
{{ "%.3f" | format(analysis.mcc_low) }} to {{ "%.3f" | format(analysis.mcc_high) }}</p>
<p>{{ verdict }}</p>
{% macro table(frame) %}
<div class="wide"><table>
<tr>{% for name in frame %}<th{% if frame[name].dtype.kind in "if" %} class="number"{% endif %}>
{{- name | replace("_", " ") }}</th>{% endfor %}</tr>
{% for row in frame.itertuples(index=False) %}<tr>{% for cell in row %}
{% if cell is number and cell is not boolean %}<td class="number">
{{- "%.3f" | format(cell) if cell is float else cell }}</td>{% else %}<td>{{ cell }}</td>{% endif %}
{% endfor %}</tr>
{% endfor %}
</table></div>
{% endmacro %}
{% for heading, words, frame, pictures in sections %}
<h2>{{ heading }}</h2>
{% if words %}<p>{{ words }}</p>{% endif %}
{% if pictures %}<div class="pictures">{% for picture in pictures %}{{ picture }}{% endfor %}</div>{% endif %}
{% if frame is not none %}{{ table(frame) }}{% endif %}
{% endfor %}
</body>
</html>
"""


def svg(figure: Figure) -> Markup:
    """A figure as an element of a page, which draws it in the page's own colour of text."""
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    with io.StringIO() as file, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": figure.axes[0].get_title()}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        text = file.getvalue()
    return Markup(text[text.index("<svg") :].replace("#000000", "currentColor"))  # noqa: S704 - Matplotlib escapes it


def render() -> str:
    """The page, from the files of the workspace. Raises UserError where one is missing."""
    settings = params.flatten(params.load(paths.PARAMS))
    source = files.read_json(paths.FINETUNED / "source.json")
    history, per_source = files.read_csv(paths.HISTORY), files.read_csv(paths.PER_SOURCE)
    predictions, calibration = files.read_csv(paths.PREDICTIONS), files.read_csv(paths.CALIBRATION)
    test, figures = files.read_json(paths.TEST_METRICS), files.read_json(paths.ANALYSIS)
    mistakes = analysis.mistakes(predictions, MISTAKES)[["sentence", "label", "predicted", "probability"]]
    facts = {
        "corpus": source["corpus"]["name"],
        "encoder": source["encoder"]["name"],
        "encoder's revision": source["encoder"]["revision"],
        "commit": _commit(),
        **files.read_json(paths.CORPUS_METRICS),
        **files.read_json(paths.TIMINGS),
        **settings,
    }
    scores = {
        name: f"{value:.3f}" if isinstance(value, float) else str(value) for name, value in (test | figures).items()
    }
    sections: list[tuple[str, str, pd.DataFrame | None, list[Markup]]] = [
        ("Scores", "", pd.DataFrame(scores.items(), columns=["score", "value"]), []),
        ("Training", "", history, [svg(figures.learning_curve(history))]),
        ("Five sentences", "", pd.DataFrame(files.read_json(paths.SAMPLES)), []),
        (
            "What is confused with what, and how sure the model is",
            f"Of its {len(predictions)} predictions {int(predictions['correct'].sum())} are right.",
            None,
            [svg(figures.confusion_matrix(predictions)), svg(figures.calibration(calibration))],
        ),
        ("Sources", "", per_source, [svg(figures.mcc_per_source(per_source))]),
        (
            "Batches",
            "As the tutorial draws them.",
            None,
            [svg(figures.mcc_per_batch(files.read_csv(paths.MCC_PER_BATCH)))],
        ),
        ("The surest mistakes", "", mistakes, []),
    ]
    if paths.SEEDS.exists():
        found = files.read_json(paths.SEEDS)
        sections.append(("Seeds", found["verdict"], None, [svg(figures.seeds(found))]))
    sections.append(("What was run", "", pd.DataFrame(facts.items(), columns=["what", "value"]).astype(str), []))
    return (
        jinja2.Environment(autoescape=True)
        .from_string(_TEMPLATE)
        .render(
            title=tutorial.title(source),
            test=test,
            analysis=figures,
            verdict=tutorial.verdict(source),
            sections=sections,
        )
    )


def _commit() -> str:
    """The commit of the workspace, and whether files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607

    changed = " and what has changed since" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "HEAD") or "none") + changed


def main() -> None:
    files.write_text(paths.REPORT, render())
    print(f"{paths.REPORT.absolute().as_uri()}")


if __name__ == "__main__":
    run(main)
