"""Links, files, make targets, modules, settings and stages in the documents and the workflow exist."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from project import ROOT, read_pipeline_and_halves

from cola.core import params, paths

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "tutorial.ipynb",
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
FOLDERS = "cola|stages|benchmarks|tests|docs|corpora|data|models|metrics"
FILE = rf"(?<![\w./-])((?:{FOLDERS}|\.github)/[\w./-]*|[\w.-]+\.(?:py|md|ipynb|yaml|toml|lock))(?![\w/])"
TARGET = r"(?:^|[\s;&|])make (?:PYTHON=\S+ )?([a-z.][a-z-]*)"
MODULE = r"python -m ([\w.]+)"
SETTING = r"(?<![\w./-])((?:fetch|tokenize|train|evaluate|sample_predict)\.(?!(?:py|csv|tsv|json|parquet)\b)\w+)"
PACKAGE_INDEX = r"(?i)https?://\S*(?:pypi|/simple|/whl)|(?:index-url|find-links)[ =]+http"
OUTPUTS = {Path("dvc.lock"), *(value for value in vars(paths).values() if isinstance(value, Path))}


def read(name):
    """Return the text of a document; of a notebook, the text between its cells of code."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".ipynb"):
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def read_code(name):
    """Return the code blocks and the code spans of a document, on separate lines."""
    blocks = re.findall(r"```.*?\n(.*?)```", read(name), re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", read(name), flags=re.DOTALL))
    return "\n".join([*blocks, *spans])


def list_links(name):
    """Return the relative targets of links and pictures."""
    return {target for target in re.findall(r"\]\(([^)\s]+)\)", read(name)) if not target.startswith("http")}


def list_anchors(path):
    """Return GitHub's anchors of the headings: 'PyTorch with or without CUDA' -> 'pytorch-with-or-without-cuda'."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def list_targets():
    return set(re.findall(r"^([a-z.][a-z-]*):", read("Makefile"), re.MULTILINE))


def leads_somewhere(name, link):
    file, _, anchor = link.partition("#")
    target = (ROOT / name).parent / file if file else ROOT / name
    return target.exists() and (not anchor or anchor in list_anchors(target))


def exists(file):
    """Return whether the file or folder is in the repository, or a run or a user makes it. A test needs no folder."""
    path = Path(file)
    if path.name == file and file.startswith("test_"):
        return any((ROOT / "tests").rglob(file))
    if path.parts[0] in ("data", "models", "metrics"):
        return any(path == output or path in output.parents or output in path.parents for output in OUTPUTS)
    return (ROOT / path).exists() or path in OUTPUTS or file == "corpora/mine"


def test_links_lead_somewhere_and_the_readme_links_every_document():
    links = {(name, link) for name in DOCUMENTS for link in list_links(name)}
    assert {link for link in links if not leads_somewhere(*link)} == set()
    assert len(links) > 20
    assert {name for name in DOCUMENTS if name != "README.md"} <= list_links("README.md")


@pytest.mark.parametrize(
    ("pattern", "is_known", "fewest"),
    [
        (FILE, exists, 30),
        (TARGET, lambda target: target in list_targets(), 15),
        (MODULE, importlib.util.find_spec, 4),
        (SETTING, lambda setting: setting in params.flatten(params.load(ROOT / "params.yaml")), 4),
    ],
    ids=["files", "make targets", "modules", "settings"],
)
def test_names_in_the_documents_exist(pattern, is_known, fewest):
    names = {(name, word) for name in DOCUMENTS for word in re.findall(pattern, read_code(name), re.MULTILINE)}
    assert {(name, word) for name, word in names if not is_known(word)} == set()
    assert len(names) > fewest


def test_the_workflow_runs_targets_and_modules_that_exist():
    workflow = read(".github/workflows/ci.yml")
    assert {"lint", "test", "test-all", "demo"} <= set(re.findall(TARGET, workflow, re.MULTILINE)) <= list_targets()
    assert all(map(importlib.util.find_spec, re.findall(MODULE, workflow)))


def test_the_picture_is_the_pipeline():
    picture = re.search(r"```mermaid\n(.*?)```", read("README.md"), re.DOTALL)[1]
    arrows = re.findall(r'(\w+) -- "([^"]+)" --> (\w+)', picture)
    stages, _ = read_pipeline_and_halves()
    flows = {
        (source, out, target)
        for source in stages
        for out in stages[source].get("outs", [])
        for target in stages
        for dep in stages[target]["deps"]
        if source != target and f"{dep}/".startswith(f"{out}/")
    }
    assert len(flows) == 8
    assert {(source, path, target) for source, label, target in arrows for path in label.split(", ")} == flows


def test_no_package_index_is_named():
    names = [*DOCUMENTS, "Makefile", "requirements.lock", ".github/workflows/ci.yml"]
    assert [name for name in names if re.search(PACKAGE_INDEX, read(name))] == []
    assert re.search(PACKAGE_INDEX, "pip install --index-url https://packages.example/simple/ torch")
