"""Records in a real MLflow on SQLite, and what happens where there is none."""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from loopback import Answer, file_server
from matplotlib.figure import Figure
from mlflow.tracking import MlflowClient

from cola import tracking

SOURCE = {
    "corpus": {"name": "cola"},
    "encoder": {"name": "tiny/bert", "revision": "a" * 40, "files": {"model.safetensors": "b" * 64}},
}
STEPS = pd.DataFrame({"step": [1, 2], "loss": [0.7, 0.6], "learning_rate": [1e-4, 5e-5], "gradient_norm": [2.0, 1.0]})
HISTORY = pd.DataFrame({"epoch": [1], "training_loss": [0.65], "validation_mcc": [0.25]})
TIMINGS = {"training_seconds": 3.0, "validation_seconds": 1.0}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project that DVC runs a stage of: in a copy elsewhere, with DVC_ROOT naming the main one."""
    for name in ("project/.dvc/tmp", "copy"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return tmp_path / "project"


def record_training(digest="c" * 64, steps=STEPS):
    Path("test.json").write_text("{}")
    tracking.record_training(
        model_sha256=digest,
        params={"train.epochs": 1, "seed": 42},
        tags=tracking.tags(SOURCE) | {"device": "cpu"},
        steps=steps,
        history=HISTORY,
        timings=TIMINGS,
        files=[Path("test.json")],
        pictures={"learning_curve.png": Figure()},
    )


def record_results(digest="c" * 64, mcc=0.5):
    tracking.record_results(
        model_sha256=digest, tags=tracking.tags(SOURCE), metrics={"test_mcc": mcc}, files=[], pictures={}
    )


def runs(root):
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("bert-cola")
    return client, client.search_runs([experiment.experiment_id])


def test_a_training_is_one_run_at_the_main_projects_root(root, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "demo")
    record_training()
    client, (run,) = runs(root)
    assert run.info.run_name == "demo"
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 4000  # ms: TIMINGS
    assert run.data.params == {"train.epochs": "1", "seed": "42"}
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    assert tags.pop("DVC_EXP_NAME") == "demo"
    assert tags == {
        "corpus": "cola",
        "encoder": "tiny/bert",
        "encoder.revision": "a" * 40,
        "encoder.sha256": "b" * 64,
        "device": "cpu",
        "model.sha256": "c" * 64,
    }
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.7), (2, 0.6)]
    assert run.data.metrics["validation_mcc"] == 0.25
    assert run.data.metrics["training_seconds"] == 3.0
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"learning_curve.png", "test.json"}
    assert (root / "mlruns").is_dir()
    assert sorted(path.name for path in Path().iterdir()) == ["test.json"], "the copy has got files of MLflow's"


def test_results_find_the_newest_run_of_their_model(root):
    for _ in range(2):
        record_training()
    record_training(digest="d" * 64)
    record_results()
    _, found = runs(root)
    by_start = sorted(found, key=lambda run: run.info.start_time)
    assert ["test_mcc" in run.data.metrics for run in by_start] == [False, True, False]
    assert len(found) == 3


def test_results_of_a_model_without_a_run_make_one(root):
    record_results(mcc=0.25)
    record_results(mcc=0.5)
    _, (run,) = runs(root)
    assert run.data.metrics == {"test_mcc": 0.5}
    assert run.data.tags["encoder"] == "tiny/bert"
    assert run.info.status == "FINISHED"


def test_many_steps_are_all_recorded(root):
    count = 1_234
    record_training(steps=pd.DataFrame({"step": range(1, count + 1), "loss": 0.5}))
    client, (run,) = runs(root)
    assert len(client.get_metric_history(run.info.run_id, "loss")) == count


def test_two_first_uses_at_once_share_one_database(root):
    code = "import test_tracking; test_tracking.record_results('e' * 64); test_tracking.record_results('f' * 64)"
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment(root)) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    _, found = runs(root)
    # Each looks for the other's run, and may come too early to see it.
    assert {run.data.tags["model.sha256"] for run in found} == {"e" * 64, "f" * 64}


def environment(root):
    here = Path(__file__).parent
    return {"PYTHONPATH": f"{here}:{here.parent}", "DVC_ROOT": str(root), "PATH": "/usr/bin:/bin", "HOME": str(root)}


@pytest.mark.parametrize("server", ["closed", "broken"])
def test_a_server_that_cannot_record_costs_seconds_and_a_warning(root, monkeypatch, capfd, server):
    with file_server({}, script=[Answer(status=500)] * 50) as broken:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9" if server == "closed" else broken.url)
        started = time.monotonic()
        record_training()
        seconds = time.monotonic() - started
    warning = capfd.readouterr().err.strip().splitlines()
    assert len(warning) == 1
    assert warning[0].startswith("warning: not recorded in MLflow: ")
    assert seconds < 15
    assert not (root / "mlflow.db").exists()
