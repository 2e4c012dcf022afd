"""The documents and the workflow name only what exists: links, files, make targets, modules, settings, stages."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from cola.core import paths

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
FOLDERS = "cola|stages|benchmarks|tests|docs|corpora|data|models|metrics"
FILE = rf"(?<![\w./-])((?:{FOLDERS}|\.github)/[\w./-]*|[\w.-]+\.(?:py|md|yaml|toml|lock))(?![\w/])"
OUTPUTS = {Path("dvc.lock"), *(value for value in vars(paths).values() if isinstance(value, Path))}


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def code_of(markdown):
    """The code blocks and the code spans of a document, a line each at least."""
    blocks = re.findall(r"```.*?\n(.*?)```", markdown, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL))
    return "\n".join([*blocks, *spans])


def links(markdown):
    """The relative targets of links and pictures."""
    targets = re.findall(r"\]\(([^)\s]+)\)", markdown)
    return {target for target in targets if not target.startswith(("http://", "https://"))}


def anchors(markdown):
    """What GitHub makes of the headings: 'PyTorch with or without CUDA' -> 'pytorch-with-or-without-cuda'."""
    headings = re.findall(r"^#+ (.*)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def broken_links(name, markdown):
    broken = set()
    for link in links(markdown):
        file, _, anchor = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.add(link)
    return broken


def exists(file):
    """Whether a name is of a file or folder of the repository, of one that a run writes, or in one of these.

    A test file may be named without its folder.
    """
    path = Path(file)
    if path.name == file and file.startswith("test_"):
        return any((ROOT / "tests").rglob(file))
    if path.parts[0] in ("data", "models", "metrics"):
        return any(path == each or path in each.parents or each in path.parents for each in OUTPUTS)
    return (ROOT / path).exists() or path in OUTPUTS


def files(markdown):
    return set(re.findall(FILE, code_of(markdown)))


def make_targets(code):
    return set(re.findall(r"(?:^|[\s;&|])make ((?:PYTHON=\S+ )?[a-z.][a-z-]*)", code, re.MULTILINE))


def unknown_targets(code):
    rules = set(re.findall(r"^([a-z.][a-z-]*):", text_of("Makefile"), re.MULTILINE))
    return {target for target in make_targets(code) if target.rpartition(" ")[2] not in rules}


def modules(code):
    return set(re.findall(r"python -m ([\w.]+)", code))


def unknown_modules(code):
    return {module for module in modules(code) if not importlib.util.find_spec(module)}


def settings(code):
    """The settings of params.yaml that code names: train.epochs."""
    names = re.findall(r"(?<![\w./-])((?:fetch|tokenize|train|evaluate|sample_predict)\.\w+)", code)
    return {name for name in names if name.partition(".")[2] not in ("py", "csv", "tsv", "json", "parquet")}


def unknown_settings(code):
    known = {f"{section}.{key}" for section, keys in params().items() if isinstance(keys, dict) for key in keys}
    return settings(code) - known


def params():
    return yaml.safe_load(text_of("params.yaml"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    assert broken_links(name, text_of(name)) == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_exist(name):
    assert {file for file in files(text_of(name)) if not exists(file)} == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_and_settings_exist(name):
    code = code_of(text_of(name))
    assert (unknown_targets(code), unknown_modules(code), unknown_settings(code)) == (set(), set(), set())


def test_the_workflow_runs_targets_that_exist():
    workflow = text_of(".github/workflows/ci.yml")
    assert {"lint", "test", "test-all", "demo"} <= make_targets(workflow)
    assert (unknown_targets(workflow), unknown_modules(workflow)) == (set(), set())


def test_there_is_enough_to_look_at():
    everything = "\n".join(text_of(name) for name in DOCUMENTS)
    code = code_of(everything)
    assert {"README.md", "docs/architecture.md", "docs/reliability.md"} <= set(DOCUMENTS)
    assert len(links(everything)) > 20
    assert len(files(everything)) > 60
    assert len(make_targets(code)) > 15
    assert len(modules(code)) > 8
    assert len(settings(code)) > 8


WRONG = """
# A heading, here

See [that](nowhere.md), [this](README.md#no-such-heading), ![a picture](docs/none.png) and [here](#a-heading-here).
`cola/none.py` and `cola/core/paths.py`; `stages/none/` and `stages/`; `metrics/none.json` and `metrics/test.json`;
`test_none.py` and `test_params.py`. Run `make nothing` or `make test`, not make sense. Set `train.none=3` or
`train.epochs=3`, and read `metrics/train.json`.

```sh
python -m cola.none && python -m cola.predict    # see none.py and params.yaml
```
"""


def test_what_does_not_exist_is_found():
    code = code_of(WRONG)
    assert broken_links("README.md", WRONG) == {
        "nowhere.md",
        "README.md#no-such-heading",
        "docs/none.png",
        "#a-heading-here",
    }
    missing = {file for file in files(WRONG) if not exists(file)}
    assert missing == {"cola/none.py", "stages/none/", "metrics/none.json", "test_none.py", "none.py"}
    assert unknown_targets(code) == {"nothing"}
    assert unknown_modules(code) == {"cola.none"}
    assert unknown_settings(code) == {"train.none"}


def test_the_picture_is_the_pipeline():
    picture = re.search(r"```mermaid\n(.*?)```", text_of("README.md"), re.DOTALL)[1]
    drawn = set()
    for source, label, target in re.findall(r'(\w+) -- "([^"]+)" --> (\w+)', picture):
        drawn |= {(source, path, target) for path in label.split(", ")}
    stages = yaml.safe_load(text_of("dvc.yaml"))["stages"]
    found = set()
    for source, target in ((source, target) for source in stages for target in stages if source != target):
        written = [out for out in stages[source].get("outs", []) if isinstance(out, str)]
        read = stages[target].get("deps", [])
        found |= {
            (source, out, target) for out in written if any(dep == out or dep.startswith(f"{out}/") for dep in read)
        }
    assert len(found) == 8
    assert drawn == found


def test_every_document_is_linked_from_the_readme():
    assert {name for name in DOCUMENTS if name != "README.md"} <= links(text_of("README.md"))
