"""The documents and the workflow name only what exists: links, files, make targets, modules, settings, stages."""

import importlib.util
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd
import pytest
from project import ROOT, pipeline_and_halves

from cola.core import params, paths
from cola.report import console, references

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "tutorial.ipynb",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
FOLDERS = "cola|stages|benchmarks|tests|docs|corpora|data|models|metrics"
FILE = rf"(?<![\w./-])((?:{FOLDERS}|\.github)/[\w./-]*|[\w.-]+\.(?:py|md|ipynb|yaml|toml|lock))(?![\w/])"
TARGET = r"(?:^|[\s;&|])make (?:PYTHON=\S+ )?([a-z.][a-z-]*)"
MODULE = r"python -m ([\w.]+)"
SETTING = r"(?<![\w./-])((?:fetch|tokenize|train|evaluate|sample_predict)\.(?!(?:py|csv|tsv|json|parquet)\b)\w+)"
OUTPUTS = {Path("dvc.lock"), *(value for value in vars(paths).values() if isinstance(value, Path))}


def text_of(name):
    """Of a notebook, what is written between its cells of code."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".ipynb"):
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def code_of(name):
    """The code blocks and the code spans of a document, a line each at least."""
    markdown = text_of(name)
    blocks = re.findall(r"```.*?\n(.*?)```", markdown, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL))
    return "\n".join([*blocks, *spans])


def links(name):
    """The relative targets of links and pictures."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text_of(name))
    return {target for target in targets if not target.startswith(("http://", "https://"))}


def anchors(path):
    """What GitHub makes of the headings: 'PyTorch with or without CUDA' -> 'pytorch-with-or-without-cuda'."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def leads_somewhere(name, link):
    file, _, anchor = link.partition("#")
    target = (ROOT / name).parent / file if file else ROOT / name
    return target.exists() and (not anchor or anchor in anchors(target))


def exists(file):
    """Whether a name is of a file or folder of the repository, of one that a run writes, or in one of these.

    A test file may be named without its folder.
    """
    path = Path(file)
    if path.name == file and file.startswith("test_"):
        return any((ROOT / "tests").rglob(file))
    if path.parts[0] in ("data", "models", "metrics"):
        return any(path == output or path in output.parents or output in path.parents for output in OUTPUTS)
    return (ROOT / path).exists() or path in OUTPUTS


def named(pattern):
    """What the code in the documents names, by document."""
    return {(name, found) for name in DOCUMENTS for found in re.findall(pattern, code_of(name), re.MULTILINE)}


def make_rules():
    return set(re.findall(r"^([a-z.][a-z-]*):", text_of("Makefile"), re.MULTILINE))


def test_links_lead_somewhere_and_the_readme_links_every_document():
    found = {(name, link) for name in DOCUMENTS for link in links(name)}
    assert {link for link in found if not leads_somewhere(*link)} == set()
    assert len(found) > 20
    assert {name for name in DOCUMENTS if name != "README.md"} <= links("README.md")


def settings():
    return params.flatten(params.load(ROOT / "params.yaml"))


@pytest.mark.parametrize(
    ("pattern", "known", "least"),
    [
        (FILE, exists, 60),
        (TARGET, lambda target: target in make_rules(), 30),
        (MODULE, importlib.util.find_spec, 8),
        (SETTING, lambda setting: setting in settings(), 8),
    ],
    ids=["files", "make targets", "modules", "settings"],
)
def test_what_the_documents_name_exists(pattern, known, least):
    found = named(pattern)
    assert {(name, word) for name, word in found if not known(word)} == set()
    assert len(found) > least


def test_the_workflow_runs_what_exists():
    workflow = text_of(".github/workflows/ci.yml")
    assert {"lint", "test", "test-all", "demo"} <= set(re.findall(TARGET, workflow, re.MULTILINE)) <= make_rules()
    assert all(map(importlib.util.find_spec, re.findall(MODULE, workflow)))


def test_the_picture_is_the_pipeline():
    picture = re.search(r"```mermaid\n(.*?)```", text_of("README.md"), re.DOTALL)[1]
    drawn = {
        (source, path, target)
        for source, label, target in re.findall(r'(\w+) -- "([^"]+)" --> (\w+)', picture)
        for path in label.split(", ")
    }
    stages, _ = pipeline_and_halves()
    outs = [(stage, out) for stage in stages for out in stages[stage].get("outs", []) if isinstance(out, str)]
    deps = [(stage, dep) for stage in stages for dep in stages[stage]["deps"]]
    found = {
        (source, out, target)
        for source, out in outs
        for target, dep in deps
        if source != target and f"{dep}/".startswith(f"{out}/")
    }
    assert len(found) == 8
    assert drawn == found


def reference_text(stem):
    """What the terminal shows of seed 42 of a measured reference."""
    history, test, analysis, samples, source = (
        (ROOT / paths.REFERENCE / stem / name).read_text(encoding="utf-8")
        for name in ("history.csv", "test.json", "analysis.json", "samples.json", "source.json")
    )
    test, analysis, samples, source = map(json.loads, (test, analysis, samples, source))
    with redirect_stdout(io.StringIO()) as printed:
        console.print_training(pd.read_csv(io.StringIO(history)), source)
        console.print_test(test, analysis, source, references.read())
        console.print_samples(samples, source)
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines()).strip("\n") + "\n"


def reference_table():
    """README's table: a row for each file of metrics/reference/, the published ones first."""
    rows = {
        "tutorial": ("the tutorial's page", "bert-base-uncased"),
        "public_runs": ("people who published their run", "bert-base-uncased"),
        "all-mpnet-base-v2": ("this pipeline", "all-mpnet-base-v2"),
        "all-MiniLM-L6-v2": ("this pipeline", "all-MiniLM-L6-v2"),
    }
    table = (
        "| trained by | encoder | runs | test MCC | standard deviation | each of them |\n|---|---|---|---|---|---|\n"
    )
    for stem, (trained_by, encoder) in rows.items():
        reference = json.loads((ROOT / paths.REFERENCE / f"{stem}.json").read_text(encoding="utf-8"))
        mccs = [run["mcc"] for run in reference["runs"]]
        several = len(mccs) > 1
        deviation = f"{reference['standard_deviation']:.3f}" if several else ""
        each = f"{min(mccs):.3f} to {max(mccs):.3f}" if several else ""
        file = f"[{trained_by}](metrics/reference/{stem}.json)"
        table += f"| {file} | {encoder} | {len(mccs)} | {reference['mcc']:.3f} | {deviation} | {each} |\n"
    return table


@pytest.mark.parametrize(
    ("document", "label", "stem"),
    [
        ("README.md", "dvc exp run, all-mpnet-base-v2", "all-mpnet-base-v2"),
        ("docs/guide.md", "make repro with MiniLM on CoLA", "all-MiniLM-L6-v2"),
    ],
)
def test_the_results_shown_are_those_of_the_references(document, label, stem, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    block = re.search(rf"<!-- output: {label} -->\n```\n(.*?)```", text_of(document), re.DOTALL)[1]
    assert block == reference_text(stem)


@pytest.mark.parametrize("stem", ["cola-mpnet", "minimal_pairs-MiniLM", "cola-MiniLM"])
def test_the_data_curves_shown_are_those_of_the_files(stem, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = text_of("docs/why_fine_tuning.md")
    block = re.search(rf"<!-- output: make data-curve, {stem} -->\n```\n(.*?)```", text, re.DOTALL)[1]
    summary = json.loads((ROOT / paths.REFERENCE / "data_curve" / f"{stem}.json").read_text(encoding="utf-8"))
    with redirect_stdout(io.StringIO()) as printed:
        console.print_data_curve(summary)
    assert block == "\n".join(line.rstrip() for line in printed.getvalue().splitlines()).strip("\n") + "\n"


def test_the_readme_has_the_figures_of_the_data_curve():
    summary = json.loads((ROOT / paths.REFERENCE / "data_curve/cola-mpnet.json").read_text(encoding="utf-8"))
    of_1000, of_all = ({row["sentences"]: row for row in summary["curve"]}[size] for size in (1000, 7695))
    assert (
        "with 1,000 of the 7,695 for training, MPNet as it was pretrained has a mean test MCC of "
        f"{of_1000['pretrained']['mean']:.3f}, and of {of_all['pretrained']['mean']:.3f} with all. The same layers "
        f"with random weights have {of_all['random_weights']['mean']:.3f} with all of them, and words alone, without "
        f"an encoder, {of_all['bag_of_words']['mean']:.3f}."
    ) in " ".join(text_of("README.md").split())


def test_the_figures_of_the_references_are_those_of_the_files():
    assert reference_table() in text_of("README.md")
    tutorial, public, mpnet = (
        json.loads((ROOT / paths.REFERENCE / f"{stem}.json").read_text(encoding="utf-8"))
        for stem in ("tutorial", "public_runs", "all-mpnet-base-v2")
    )
    assert (
        f"Five seeds average a test MCC of {mpnet['mcc']:.3f}. The tutorial reports {tutorial['mcc']}, and "
        f"{public['count']} public runs of its recipe average {public['mcc']:.3f}, both with BERT."
    ) in " ".join(text_of("README.md").split())
    text = " ".join(text_of("docs/reproduction.md").split())
    for reference, words in (
        (public, "a mean test MCC of {mcc:.3f} with a standard deviation of {standard_deviation:.3f}"),
        (mpnet, "five seeds of this pipeline give {mcc:.3f} with a standard deviation of {standard_deviation:.3f}"),
    ):
        assert words.format(**reference) in text
    assert f"is {public['count']} public runs" in text


def benchmark(machine):
    return json.loads((ROOT / f"benchmarks/results/{machine}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("machine", ["amd-epyc-2-threads", "intel-r-xeon-r-processor-2-threads"])
def test_the_page_of_speed_has_the_figures_of_the_benchmarks(machine):
    def seconds(value):
        return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"

    rows = []
    for kind in ("training", "prediction"):
        for shape, methods in benchmark(machine)[kind].items():
            own, roofline = methods.pop("bert-cola")["seconds"], methods.pop("roofline", None)
            cells = [f"{seconds(found['seconds'])} ({found['ratio']:.1f})" for found in methods.values()]
            cells.append(f"**{seconds(own)}**")
            if roofline:
                cells.append(f"{seconds(roofline['seconds'])} ({roofline['seconds'] / own:.0%})")
            rows.append(f"| {shape} | {' | '.join(cells)} |")
    assert len(rows) == 12
    assert not set(rows) - set(text_of("docs/speed.md").splitlines())


def test_the_readme_has_the_figures_of_the_benchmarks():
    readme = " ".join(text_of("README.md").split())
    xeon, epyc = (
        benchmark(machine)["training"]["bert-base-uncased"]["the tutorial's loop"]["ratio"]
        for machine in ("intel-r-xeon-r-processor-2-threads", "amd-epyc-2-threads")
    )
    assert f"takes {xeon:.1f} times as long on two cores of an Intel Xeon, and {epyc:.1f} times as long" in readme
    outcome = pd.read_csv(ROOT / "benchmarks/results/outcome.csv").groupby("method")["test_mcc"].mean()
    means = f"{outcome['tutorial']:.3f} and {outcome['bert-cola']:.3f}"
    assert f"give a mean test MCC of {means}" in readme
