"""`make demo` as a user runs it, with a tiny encoder and 20 steps. test_notebook.py runs it with MiniLM."""

import shutil
from pathlib import Path

import pytest
from project import check_contracts, copy_project, list_runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory, tiny_encoder, run):
    """A project after `make demo` with a tiny encoder, and the command's output."""
    project = copy_project(tmp_path_factory.mktemp("demo"), train__max_steps=20)
    return project, run(project, "make", "demo", f"ENCODER={tiny_encoder}")


def test_the_demo_prints_its_result_and_leaves_the_workspace_clean(demo, run):
    project, printed = demo
    end = printed[printed.rindex("Training: ") :]
    assert end.startswith("Training: minimal_pairs, tiny-bert")
    assert "Test MCC: " in end
    assert "not comparable" in end
    assert end.count("right") + end.count("wrong") == 5
    assert "make ui" in end
    assert [line for line in printed.splitlines() if "warning" in line.lower()] == []
    assert run(project, "git", "status", "--porcelain") == ""
    assert {path.name for path in (project / "models").iterdir()} == {".gitignore"}


def test_the_demo_is_a_run_in_mlflow(demo):
    project, _ = demo
    _, (run,) = list_runs(project)
    assert run.info.run_name == "demo"
    assert run.data.tags["corpus"] == "minimal_pairs"
    assert run.data.tags["encoder"] == "tiny-bert"
    assert run.data.tags["DVC_EXP_NAME"] == "demo"
    assert len(run.data.tags["git.commit"]) == 40
    assert run.data.params["train.max_steps"] == "20"
    assert {"loss", "training_loss", "validation_mcc", "test_mcc", "tokens_per_second"} <= run.data.metrics.keys()
    artifacts = {path.name for path in Path(run.info.artifact_uri.removeprefix("file://")).iterdir()}
    assert {"history.csv", "samples.json", "learning_curve.png", "confusion_matrix.png"} <= artifacts


def test_the_demo_applied_is_a_whole_result_and_a_second_demo_comes_from_the_cache(demo, tiny_encoder, tmp_path, run):
    project = Path(shutil.copytree(demo[0], tmp_path / "project", symlinks=True))
    run(project, "dvc", "exp", "apply", "demo")
    check_contracts(project, training=5_400, validation=600, epochs=1, steps_per_epoch=20)
    assert "up to date" in run(project, "make", "repro")
    assert "acceptable" in run(project, "make", "--silent", "predict", 'TEXT=The key\'s "here".')
    assert "mcc" in run(project, "dvc", "metrics", "show")
    run(project, "git", "stash", "--all", "--quiet", "--", "metrics", "dvc.lock", "params.yaml")
    again = run(project, "make", "demo", f"ENCODER={tiny_encoder}")
    for stage in ("fetch@corpus", "fetch@encoder", "tokenize", "train", "evaluate"):
        assert f"Stage '{stage}' is cached - skipping run" in again
    printed = demo[1]
    assert printed[printed.rindex("Training: ") : printed.rindex("Look further")] in again
