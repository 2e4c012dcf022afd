"""The process that records a stage: it reports what goes wrong, and is gone when the stage is."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from processes import finished, wait_for
from project import ROOT
from results import write_results

from cola.report import recorder


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with results, and with the library from elsewhere."""
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    write_results()
    return tmp_path


def test_a_stage_is_recorded_when_record_returns_whether_it_was_started_before_or_not(root):
    process = recorder.start()
    assert recorder.start() is process
    recorder.record("training")
    assert process.returncode == 0
    recorder.record("samples")
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("bert-cola").experiment_id])
    assert {"learning_curve.png", "samples.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_a_recorder_that_is_killed_costs_a_warning(root, capfd):
    recorder.start().send_signal(signal.SIGKILL)
    recorder.record("training")
    assert capfd.readouterr().err == "warning: not recorded in MLflow (status -9); `make track` does it\n"
    assert not (root / "mlflow.db").exists()


def test_mlflows_faults_are_warned_of_once(root, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    recorder.record("training")
    warning = capfd.readouterr().err.splitlines()
    assert len(warning) == 1
    assert warning[0].startswith("warning: not recorded in MLflow: ")


def test_where_nothing_is_to_be_recorded_nothing_is(root, capfd):
    process = recorder.start()
    recorder.start.cache_clear()
    process.communicate()
    assert process.returncode == 0
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    assert client.get_experiment_by_name("bert-cola") is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_recorder_ends_when_its_stage_is_killed():
    stage = textwrap.dedent("""
        import os, time
        from cola.report import recorder
        print(recorder.start().pid, flush=True)
        time.sleep(0.3)
        os.kill(os.getpid(), 9)
    """)
    process = Path("/proc", finished([sys.executable, "-c", stage]).stdout.strip())
    wait_for(lambda: not process.exists() or (process / "stat").read_text().split()[2] == "Z", 1)


def test_a_recorder_whose_stage_has_ended_already_ends_at_once():
    command = [sys.executable, "-X", "importtime", "-m", "cola.report.recorder", str(os.getppid())]  # not its parent
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "cola.core.processes" in ended.stderr
    assert "mlflow" not in ended.stderr


@pytest.mark.parametrize(("stage", "starts"), [("fetch", False), ("tokenize", False), ("train", True)])
def test_a_stage_that_records_starts_its_recorder_first(stage, starts):
    code = "import stages, sys; from cola.report import recorder; print(recorder.start.cache_info().currsize)"
    started = finished([sys.executable, "-c", code], DVC_STAGE=stage, DVC_PID=str(os.getpid()))
    assert started.stdout == f"{int(starts)}\n"


def test_a_process_of_torchrun_starts_none():
    code = "import stages; from cola.report import recorder; print(recorder.start.cache_info().currsize)"
    assert finished([sys.executable, "-c", code], DVC_STAGE="train", DVC_PID="").stdout == "0\n"
