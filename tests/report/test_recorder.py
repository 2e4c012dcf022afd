"""The process that records a stage: it reports what goes wrong, and is gone when the stage is."""

import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from processes import finished, wait_for
from project import ROOT
from results import SOURCE, write_results

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
    assert not (root / "mlflow.db").exists()
    assert capfd.readouterr() == ("", "")


def test_a_recorder_to_which_nothing_was_sent_ends_when_its_stage_is_killed():
    stage = textwrap.dedent("""
        import os, time
        from cola.report import recorder
        print(recorder.start().pid, flush=True)
        time.sleep(0.3)
        os.kill(os.getpid(), 9)
    """)
    process = Path("/proc", finished([sys.executable, "-c", stage]).stdout.strip())
    wait_for(lambda: not process.exists() or (process / "stat").read_text().split()[2] == "Z", 1)


def test_a_recorder_whose_stage_has_ended_already_does_not_load_mlflow():
    command = [sys.executable, "-X", "importtime", "-m", "cola.report.recorder"]
    ended = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert "threading" in ended.stderr
    assert "mlflow.tracking" not in ended.stderr


START = {"settings": {"seed": 42}, "source": SOURCE, "machine": {"device": "cpu", "precision": "float32"}}
ROWS = [{"step": step, "loss": step / 8} for step in range(1, 4)]


def runs(root):
    """The runs, the newest first; for each its steps' losses as {step: [loss]}."""
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("bert-cola")
    found = []
    for run in client.search_runs([experiment.experiment_id]) if experiment else ():
        losses = {}
        for point in client.get_metric_history(run.info.run_id, "loss"):
            losses.setdefault(point.step, []).append(point.value)
        found.append((run, losses))
    return found


@pytest.fixture
def project(root, empty_database):
    """Such a project in which MLflow has its tables."""
    shutil.copy(empty_database, root)
    return root


def only_run(root, status, steps=0):
    """The one run there is, once it has this status and so many steps."""

    def found():
        return [run for run, losses in runs(root) if run.info.status == status and len(losses) >= steps]

    wait_for(found, 30, lambda: str(runs(root)))
    ((run, losses),) = runs(root)
    return run, losses


def test_a_training_is_watched_from_its_first_step_and_ends_as_if_it_had_been_recorded_afterwards(project, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "demo")
    write_results()
    with recorder.live_run(**START, resumed=False) as send:
        run, losses = only_run(project, "RUNNING")
        assert run.info.run_name == "demo"
        assert (run.data.tags["corpus"], run.data.tags["device"]) == ("cola", "cpu")
        assert run.data.params == {"seed": "42"}
        assert losses == {}
        send(step={"step": 1, "loss": 0.1 + 0.2})
        assert only_run(project, "RUNNING", 1)[1] == {1: [0.1 + 0.2]}
        send(epoch={"epoch": 1, "validation_mcc": 0.25})
        recorder.record("training")
    run, losses = only_run(project, "FINISHED")
    assert losses == {1: [0.1 + 0.2], 2: [0.6]}, "the files have the second, too"
    assert run.data.metrics["validation_mcc"] == 0.25
    assert run.data.tags["device"] == "cpu, 2 threads"
    assert len(run.data.tags["model.sha256"]) == 64


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_training_that_does_not_end_well_says_so(project, error, status):
    def stage():
        with recorder.live_run(**START, resumed=False) as send:
            send(step=ROWS[0])
            raise error

    with pytest.raises(error):
        stage()
    recorder.start().stdin.close()  # as when the stage's process ends
    recorder.start.cache_clear()
    assert only_run(project, status)[1] == {1: [0.125]}


def killed(resumed, rows):
    """A stage that is killed, as soon as it has sent these rows."""
    stage = textwrap.dedent(f"""
        import os
        from cola.report import recorder
        with recorder.live_run(**{START}, resumed={resumed}) as send:
            for row in {rows}:
                send(step=row)
            os.kill(os.getpid(), 9)
    """)
    subprocess.run([sys.executable, "-c", stage], check=False)


def test_a_training_that_is_killed_goes_on_in_its_run_and_no_step_is_there_twice(project):
    killed(False, ROWS[:2])
    first, losses = only_run(project, "KILLED")
    assert losses == {1: [0.125], 2: [0.25]}
    killed(True, ROWS[1:])
    wait_for(lambda: len(runs(project)[0][1]) == 3, 30)
    again, losses = only_run(project, "KILLED", 3)
    assert losses == {1: [0.125], 2: [0.25], 3: [0.375]}
    assert again.info.run_id == first.info.run_id
    killed(False, ROWS[:1])
    wait_for(lambda: [run.info.status for run, _ in runs(project)] == ["KILLED"] * 2, 30)
    assert [len(losses) for _, losses in runs(project)] == [1, 3], "from its start, it is another run"


def test_a_training_waits_for_no_recorder(project):
    """It is stopped, so that it reads nothing: the pipe is full after some 1,000 lines."""
    count = 20_000
    write_results(steps=pd.DataFrame({"step": range(1, count + 1), "loss": 0.5}))
    with recorder.live_run(**START, resumed=False) as send:
        recorder.start().send_signal(signal.SIGSTOP)
        started = time.monotonic()
        for step in range(1, count + 1):
            send(step={"step": step, "loss": 0.5})
        assert time.monotonic() - started < 2
        recorder.start().send_signal(signal.SIGCONT)
        recorder.record("training")
    assert only_run(project, "FINISHED")[1] == {step: [0.5] for step in range(1, count + 1)}


@pytest.mark.slow
def test_a_server_that_hangs_while_a_training_goes_on_costs_no_more_than_one_that_hangs_at_its_end(root, capfd):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with recorder.live_run(**START, resumed=False) as send:
            silent.accept()  # it is asked, and never answers
            send(step=ROWS[0])
            started = time.monotonic()
            recorder.record("training")
    assert time.monotonic() - started < 6
    assert capfd.readouterr().err.count("warning: not recorded in MLflow") == 1


def test_a_process_of_torchrun_starts_none():
    code = "import stages; from cola.report import recorder; print(recorder.start.cache_info().currsize)"
    assert finished([sys.executable, "-c", code], DVC_STAGE="train", DVC_PID="").stdout == "0\n"
