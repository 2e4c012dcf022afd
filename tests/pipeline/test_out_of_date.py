"""Stages that DVC runs again, or keeps, after an edit of code, a setting or a user's folder."""

import json
import shutil
import subprocess
import sys

import pytest
from project import change_settings, copy_project, outputs

HALVES = ["fetch@corpus", "fetch@encoder"]
AFTER_FETCH = ["tokenize", "train", "evaluate", "sample_predict"]
RUN = "Running stage '{}'"
SKIPPED = "Stage '{}' didn't change, skipping"
RESTORED = "Stage '{}' is cached - skipping run, checking out outputs"


def find_stages(line, printed):
    """Return the stages that have a line in what `dvc repro` printed, in the order in which they run."""
    return [stage for stage in HALVES + AFTER_FETCH if line.format(stage) in printed]


def append_comment(path):
    with path.open("a", encoding="utf-8") as file:
        file.write("# A comment.\n")


def correct_a_label(project):
    table = project / "corpora/mine/train.csv"
    text = table.read_text()
    assert text.count("We had dinner in the garden.,statement") == 1
    table.write_text(text.replace("We had dinner in the garden.,statement", "Had we dinner there?,question"))


@pytest.fixture
def project(tmp_path, tiny_encoder):
    """A project in which nothing has run, with a corpus in corpora/mine and an encoder in a folder outside."""
    shutil.copytree(tiny_encoder, tmp_path / "encoder")
    (tmp_path / "project").mkdir()
    encoder = str(tmp_path / "encoder")
    settings = {"fetch__corpus": "corpora/mine", "fetch__encoder": encoder, "train__epochs": 1, "train__max_steps": 2}
    project = copy_project(tmp_path / "project", **settings)
    shutil.copytree(project / "corpora/example", project / "corpora/mine")
    for command in (["add", "corpora"], ["commit", "-q", "-m", "a corpus"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    return project


@pytest.mark.parametrize(
    ("edited", "changes"),
    [
        (["cola/report", "cola/experiments", "cola/predict.py"], {}),
        (["cola/fetch/download.py"], dict.fromkeys(HALVES, "cola/fetch")),
        (["cola/train/loop.py"], {"train": "cola/train"}),
        (["cola/evaluate/analysis.py"], {"evaluate": "cola/evaluate"}),
        (["cola/core/files.py"], dict.fromkeys(HALVES + AFTER_FETCH, "cola/core")),
        (["cola/train/__pycache__/loop.cpython-311.pyc", "stages/__pycache__/train.pyc"], {}),
    ],
    ids=["report", "fetch", "train", "evaluate", "core", "bytecode"],
)
def test_an_edit_reruns_the_stages_that_it_can_change_only(applied, run, edited, changes):
    files = [
        file for path in edited for file in ((applied / path).glob("*.py") if "." not in path else [applied / path])
    ]
    assert len(files) >= len(edited)
    for file in files:
        file.parent.mkdir(exist_ok=True)
        append_comment(file)
    status = json.loads(run(applied, "dvc", "status", "--json"))
    changed = {stage: [dep for change in of for dep in change.get("changed deps", {})] for stage, of in status.items()}
    assert changed == {stage: [room] for stage, room in changes.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        ("sed -i 's/^seed: 42/seed: 43/; s/epochs: 1/epochs: 2/' params.yaml", "seed"),
        ("echo '# A comment.' >> cola/data/corpus.py", "cola/data/corpus.py"),
        ("sed -i 's/epochs: 1/epochs: 2/' params.yaml; echo '# A comment.' >> cola/report/words.py", ""),
    ],
    ids=["setting", "code", "nothing of this stage"],
)
def test_an_edit_while_a_stage_runs_is_not_recorded_with_the_old_result(project, run, edit, changed):
    run(project, "dvc", "repro", "fetch")
    environment, python = project / ".venv", project / ".venv/bin/python"
    environment.rename(project / ".git/venv")
    python.parent.mkdir(parents=True)
    # It edits once the stage has loaded its tokenizers' library.
    wait = "until grep -q tokenizers.abi3 /proc/$$/maps; do sleep 0.02; done"
    python.write_text(f'#!/bin/sh\n({wait}; {edit}) &\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    printed = run(project, "dvc", "repro", "tokenize", fails=bool(changed))
    fault = f"error: {changed} changed while the stage ran, which DVC does not notice: run `dvc repro` again\n"
    assert (fault in printed) == bool(changed)
    shutil.rmtree(environment)
    (project / ".git/venv").rename(environment)
    printed = run(project, "dvc", "repro", "tokenize")
    assert find_stages(RUN, printed) == ["tokenize"] * bool(changed)


@pytest.mark.slow
def test_a_label_is_corrected_while_the_encoder_is_not_available(project, run):
    """The second time in a copy of the project, as `--temp` and the queue make it: untracked files are absent there."""
    run(project, "dvc", "repro", "fetch")
    before = outputs(project)
    (project.parent / "encoder").rename(project.parent / "away")
    correct_a_label(project)
    printed = run(project, "dvc", "repro", "fetch")
    assert find_stages(RUN, printed) == ["fetch@corpus"]
    assert find_stages(SKIPPED, printed) == ["fetch@encoder"]
    after = outputs(project)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"data/raw/train.csv", "data/raw/source.json", "data/raw/SHA256SUMS"}

    run(project, "git", "checkout", "corpora")
    printed = run(project, "dvc", "repro", "fetch")
    assert find_stages(RUN, printed) == []
    assert find_stages(RESTORED, printed) == ["fetch@corpus"]
    assert outputs(project) == before

    correct_a_label(project)
    printed = run(project, "dvc", "exp", "run", "--temp", "--name", "corrected")
    assert find_stages(RESTORED, printed) == HALVES
    assert find_stages(RUN, printed) == AFTER_FETCH
    run(project, "dvc", "exp", "apply", "corrected")
    assert "Data and pipelines are up to date." in run(project, "dvc", "repro")
    assert "all,question,Had we dinner there?" in (project / "data/raw/train.csv").read_text()


@pytest.mark.slow
def test_a_failed_fetch_loses_nothing(project, run):
    run(project, "dvc", "repro", "fetch")
    before = outputs(project)
    (project.parent / "encoder").rename(project.parent / "away")

    change_settings(project, fetch__encoder="google-bert/bert-base-uncased")
    printed = run(project, "dvc", "repro", "fetch", fails=True, HF_ENDPOINT="http://127.0.0.1:9")
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: cannot fetch google-bert/bert-base-uncased: COLA_MIRROR is not set; 127.0.0.1")
    assert "make demo" in line
    assert "Traceback" not in printed
    assert outputs(project) == {name: content for name, content in before.items() if "pretrained" not in name}

    change_settings(project, fetch__encoder=str(project.parent / "encoder"))
    printed = run(project, "dvc", "repro", "fetch")
    assert find_stages(RUN, printed) == []
    assert find_stages(RESTORED, printed) == ["fetch@encoder"]
    assert outputs(project) == before
