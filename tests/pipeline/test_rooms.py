"""The stage fetch, with a real DVC: what its code, its settings and the user's folders make out of date."""

import os
import shutil
import signal
import subprocess

import pytest
from processes import running, wait_for
from project import change_settings, copy_of_the_project, outputs

HALVES = ["fetch@corpus", "fetch@encoder"]
AFTER_FETCH = ["tokenize", "train", "evaluate", "sample_predict"]
SKIPPED = "Stage '{}' didn't change, skipping"
RESTORED = "Stage '{}' is cached - skipping run, checking out outputs"


def named(printed, line):
    """The stages of which `dvc repro` printed a line, in the order in which they run."""
    return [stage for stage in HALVES + AFTER_FETCH if line.format(stage) in printed]


def ran(printed):
    return named(printed, "Running stage '{}'")


def edit_fetch(project):
    with (project / "cola/fetch/download.py").open("a") as file:
        file.write("# A comment.\n")


def correct_a_label(project):
    table = project / "corpora/mine/train.csv"
    text = table.read_text()
    assert text.count("We had dinner in the garden.,statement") == 1
    table.write_text(text.replace("We had dinner in the garden.,statement", "Had we dinner there?,question"))


@pytest.fixture
def project(tmp_path, tiny_encoder):
    """A project in which nothing has run, with a corpus in corpora/mine and an encoder in a folder elsewhere."""
    shutil.copytree(tiny_encoder, tmp_path / "encoder")
    (tmp_path / "project").mkdir()
    encoder = str(tmp_path / "encoder")
    settings = {"fetch__corpus": "corpora/mine", "fetch__encoder": encoder, "train__epochs": 1, "train__max_steps": 2}
    project = copy_of_the_project(tmp_path / "project", **settings)
    shutil.copytree(project / "corpora/example", project / "corpora/mine")
    for command in (["add", "corpora"], ["commit", "-q", "-m", "a corpus"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    return project


def test_an_edit_of_fetch_runs_fetch_only(applied, run):
    before = outputs(applied)
    edit_fetch(applied)
    printed = run(applied, "dvc", "repro")
    assert ran(printed) == HALVES
    assert named(printed, SKIPPED) == AFTER_FETCH
    assert outputs(applied) == before


@pytest.mark.slow
def test_an_edit_of_fetch_keeps_the_checkpoint_of_a_killed_training(tmp_path, tiny_encoder, environment, run):
    project = copy_of_the_project(
        tmp_path, fetch__corpus="minimal_pairs", fetch__encoder=str(tiny_encoder), train__epochs=8
    )
    checkpoints, log = project / ".dvc/tmp/checkpoints", project / ".git/log"
    with running(["dvc", "repro", "train"], log, cwd=project, env=environment) as pipeline:
        wait_for(lambda: list(checkpoints.glob("*.safetensors")), 300, log.read_text)
        os.killpg(pipeline.pid, signal.SIGKILL)
    edit_fetch(project)
    printed = run(project, "dvc", "repro", "train")
    assert ran(printed) == [*HALVES, "train"]
    # A training deletes its checkpoint at its end. One that had not taken up this checkpoint would have left it.
    assert list(checkpoints.iterdir()) == []


def test_a_label_is_corrected_while_the_encoder_is_out_of_reach(project, run):
    run(project, "dvc", "repro", "fetch")
    before = outputs(project)
    (project.parent / "encoder").rename(project.parent / "away")

    correct_a_label(project)
    printed = run(project, "dvc", "repro", "fetch")
    assert ran(printed) == ["fetch@corpus"]
    assert named(printed, SKIPPED) == ["fetch@encoder"]
    after = outputs(project)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"data/raw/train.csv", "data/raw/source.json", "data/raw/SHA256SUMS"}

    run(project, "git", "checkout", "corpora")
    printed = run(project, "dvc", "repro", "fetch")
    assert ran(printed) == []
    assert named(printed, RESTORED) == ["fetch@corpus"]
    assert outputs(project) == before


@pytest.mark.slow
def test_a_fetch_that_fails_loses_nothing(project, run):
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
    assert ran(printed) == []
    assert named(printed, RESTORED) == ["fetch@encoder"]
    assert outputs(project) == before


@pytest.mark.slow
def test_an_experiment_elsewhere_fetches_its_half_only(project, run):
    """In a copy of the project, as `--temp` and the queue make one, where untracked files are absent."""
    run(project, "dvc", "repro", "tokenize")
    (project.parent / "encoder").rename(project.parent / "away")
    correct_a_label(project)
    printed = run(project, "dvc", "exp", "run", "--temp", "--name", "corrected")
    assert ran(printed) == ["fetch@corpus", *AFTER_FETCH]
    run(project, "dvc", "exp", "apply", "corrected")
    assert "Data and pipelines are up to date." in run(project, "dvc", "repro")
    assert "all,question,Had we dinner there?" in (project / "data/raw/train.csv").read_text()
