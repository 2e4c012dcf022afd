"""What an edit makes out of date, as a real DVC sees it: what it touches, and nothing else."""

import json

import pytest

from cola.core import files
from cola.train import checkpoint


def edit(project, name, old, new):
    text = (project / name).read_text()
    assert text.count(old) == 1
    (project / name).write_text(text.replace(old, new))


def append(project, name, line="# A comment."):
    with (project / name).open("a") as file:
        file.write(line + "\n")


def out_of_date(project, run):
    """The stages that would run, and what has changed for them: the room of cola/, or the file."""
    status = json.loads(run(project, "dvc", "status", "--json"))
    return {
        stage: {path for change in changes for path in change.get("changed deps", {})}
        for stage, changes in status.items()
    }


def test_an_edit_of_what_only_shows_reruns_nothing_and_loses_no_checkpoint(applied, run, monkeypatch):
    monkeypatch.setattr(files, "__file__", str(applied / "cola/core/files.py"))  # whose library a digest is of
    before = checkpoint.path_for({}, [])
    append(applied, "cola/report/figures.py", 'COLOUR = "red"')
    shown = [path for room in ("report", "experiments") for path in (applied / "cola" / room).glob("*.py")]
    assert len(shown) > 8
    for path in shown:
        append(applied, path)
    append(applied, "cola/predict.py")
    assert out_of_date(applied, run) == {}
    assert "up to date" in run(applied, "dvc", "repro")
    assert checkpoint.path_for({}, []) == before
    append(applied, "cola/train/loop.py")
    assert checkpoint.path_for({}, []) != before


def test_an_edit_of_the_maths_of_training_trains_and_does_not_tokenize(applied, run):
    edit(applied, "cola/train/loop.py", "return 1 - step / total_steps", "return 1.0")
    assert out_of_date(applied, run) == {"train": {"cola/train"}}


def test_an_edit_of_the_evaluation_does_not_train(applied, run):
    append(applied, "cola/evaluate/analysis.py")
    assert out_of_date(applied, run) == {"evaluate": {"cola/evaluate"}}
    printed = run(applied, "dvc", "repro", "--dry")
    assert "Running stage 'evaluate'" in printed
    for stage in ("fetch@corpus", "fetch@encoder", "tokenize", "train", "sample_predict"):
        assert f"Stage '{stage}' didn't change, skipping" in printed


def test_an_edit_of_what_all_stand_on_reruns_all(applied, run):
    append(applied, "cola/core/files.py")
    stages = {"fetch@corpus", "fetch@encoder", "tokenize", "train", "evaluate", "sample_predict"}
    assert out_of_date(applied, run).keys() == stages


@pytest.mark.parametrize("name", ["cola/train/__pycache__/loop.cpython-311.pyc", "stages/__pycache__/train.pyc"])
def test_what_python_writes_beside_the_code_reruns_nothing(applied, run, name):
    (applied / name).parent.mkdir(exist_ok=True)
    (applied / name).write_bytes(b"compiled")
    assert out_of_date(applied, run) == {}
