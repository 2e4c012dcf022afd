"""The process that logs a stage, started by small programs as stages/train.py starts it."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pandas as pd
import psutil
import pytest
from loopback import Answer, file_server
from mlflow.tracking import MlflowClient
from processes import run_to_end, wait_for
from project import ROOT
from results import SOURCE, write_results

TRAINING = {"settings": {"seed": 42}, "source": SOURCE, "machine": {"device": "cpu", "precision": "float32"}}
ROWS = [{"step": step, "loss": step / 8} for step in range(1, 4)]
STAGE = f"""
import os, sys, threading, time
from cola.report import mlflow_logger
mlflow_logger.start()
TRAINING, ROWS = {TRAINING}, {ROWS}
def send(rows):
    for row in rows:
        mlflow_logger.send("step", row)
"""


@pytest.fixture(autouse=True)
def results(bare_root, monkeypatch):
    """Results of a stage in the working directory, and the library within reach."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("RANK", raising=False)
    write_results()


@contextmanager
def stage(code, **variables):
    """A process that runs STAGE and this code. It leads a group of processes, as in a terminal."""
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE + code],
        env=os.environ | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run_stage(code):
    """Run such a stage to its end. Returns (status, standard error)."""
    with stage(code) as process:
        _, error = process.communicate(timeout=100)
        return process.returncode, error


def read_runs_and_losses(root):
    """Returns (run, {step: [loss]}) of each run, the newest first."""
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("bert-cola")
    listed = []
    for run in client.search_runs([experiment.experiment_id]) if experiment else ():
        losses = {}
        for point in client.get_metric_history(run.info.run_id, "loss"):
            losses.setdefault(point.step, []).append(point.value)
        listed.append((run, losses))
    return listed


def read_only_run(root, status, steps=0):
    """Wait until a run has this status and so many steps. Returns it, which must be the only run, and its losses."""

    def is_ready():
        return [run for run, losses in read_runs_and_losses(root) if run.info.status == status and len(losses) >= steps]

    wait_for(is_ready, 60, lambda: str(read_runs_and_losses(root)))
    (run,) = read_runs_and_losses(root)
    return run


@pytest.mark.slow
def test_a_run_is_running_from_the_start_grows_and_ends_with_its_files(root):
    code = """
with mlflow_logger.live_run(**TRAINING, resumed=False) as log:
    sys.stdin.readline()
    log("step", {"step": 1, "loss": 0.1 + 0.2})
    sys.stdin.readline()
    log("epoch", {"epoch": 1, "validation_mcc": 0.25})
    mlflow_logger.record("training")
"""
    with stage(code, DVC_EXP_NAME="demo") as process:
        run, losses = read_only_run(root, "RUNNING")
        assert run.info.run_name == "demo"
        assert (run.data.tags["corpus"], run.data.tags["device"]) == ("cola", "cpu")
        assert losses == {}
        process.stdin.write("\n")
        process.stdin.flush()
        run, losses = read_only_run(root, "RUNNING", 1)
        assert losses == {1: [0.1 + 0.2]}
        assert run.data.params == {"seed": "42"}
        _, error = process.communicate("\n", timeout=60)
    assert (process.returncode, error) == (0, "")
    run, losses = read_only_run(root, "FINISHED")
    assert losses == {1: [0.1 + 0.2], 2: [0.6]}, "the files have the second step, too"
    assert run.data.metrics["validation_mcc"] == 0.25
    assert run.data.tags["device"] == "cpu, 2 threads"
    assert len(run.data.tags["model.sha256"]) == 64


@pytest.mark.slow
def test_an_error_makes_the_run_failed(root):
    code = """
with mlflow_logger.live_run(**TRAINING, resumed=False):
    send(ROWS[:1])
    raise ValueError
"""
    status, error = run_stage(code)
    assert status == 1
    assert error.strip().endswith("ValueError")
    assert read_only_run(root, "FAILED")[1] == {1: [0.125]}


@pytest.mark.slow
def test_control_c_makes_the_run_killed(root):
    code = """
with mlflow_logger.live_run(**TRAINING, resumed=False):
    send(ROWS[:1])
    time.sleep(100)
"""
    with stage(code) as process:
        read_only_run(root, "RUNNING", 1)
        os.killpg(process.pid, signal.SIGINT)  # a terminal interrupts the logging process, too
        _, error = process.communicate(timeout=60)
    assert error.strip().endswith("KeyboardInterrupt")
    assert read_only_run(root, "KILLED")[1] == {1: [0.125]}


def run_and_kill(root, resumed, rows, steps):
    """Run a stage that sends these rows, and kill it once its run has so many steps."""
    code = f"""
with mlflow_logger.live_run(**TRAINING, resumed={resumed}):
    send(ROWS[{rows.start} : {rows.stop}])
    time.sleep(100)
"""
    with stage(code) as process:
        wait_for(lambda: [len(losses) for _, losses in read_runs_and_losses(root)][:1] == [steps], 60)
        (logger,) = psutil.Process(process.pid).children()
        process.kill()
        assert psutil.wait_procs([logger], timeout=5)[1] == [], "the logging process outlives its stage"


@pytest.mark.slow
def test_a_resumed_training_continues_its_run_without_repeated_steps(root):
    run_and_kill(root, False, range(2), 2)
    first, losses = read_only_run(root, "RUNNING")
    assert losses == {1: [0.125], 2: [0.25]}
    run_and_kill(root, True, range(1, 3), 3)
    again, losses = read_only_run(root, "RUNNING")
    assert losses == {1: [0.125], 2: [0.25], 3: [0.375]}
    assert again.info.run_id == first.info.run_id
    run_and_kill(root, False, range(1), 1)
    assert [len(losses) for _, losses in read_runs_and_losses(root)] == [1, 3], "a training from the start is a new run"


@pytest.mark.slow
def test_a_training_does_not_wait_for_a_logger_that_reads_nothing(root):
    count = 20_000
    write_results(steps=pd.DataFrame({"step": range(1, count + 1), "loss": 0.5}))
    code = f"""
with mlflow_logger.live_run(**TRAINING, resumed=False):
    sys.stdin.readline()
    started = time.monotonic()
    send([{{"step": step, "loss": 0.5}} for step in range(1, {count + 1})])
    print(time.monotonic() - started, flush=True)
    sys.stdin.readline()
    mlflow_logger.record("training")
"""
    with stage(code) as process:
        read_only_run(root, "RUNNING")
        (logger,) = psutil.Process(process.pid).children()
        logger.suspend()
        process.stdin.write("\n")
        process.stdin.flush()
        assert float(process.stdout.readline()) < 2
        logger.resume()
        _, error = process.communicate("\n", timeout=100)
    assert error == ""
    assert read_only_run(root, "FINISHED")[1] == {step: [0.5] for step in range(1, count + 1)}


def test_a_killed_logger_costs_a_warning(bare_root):
    code = "os.kill(mlflow_logger._logger.process.pid, 9); mlflow_logger.record('training')"
    assert run_stage(code) == (
        0,
        "warning: not recorded in MLflow: the process that records was killed; `make track` records it later\n",
    )
    assert not (bare_root / "mlflow.db").exists()


def test_a_missing_package_costs_a_warning_with_the_remedy():
    code = (
        "import sys; sys.modules['mlflow'] = None; from cola.report import mlflow_logger; mlflow_logger.start(); "
        "mlflow_logger.record('samples')"
    )
    warning = f"{sys.executable} has no package mlflow.entities: run `make .venv`, then `make track`"
    assert run_to_end([sys.executable, "-c", code]).stderr == f"warning: not recorded in MLflow: {warning}\n"


def test_an_mlflow_that_cannot_be_imported_costs_a_warning(monkeypatch):
    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", "chatty")
    remedy = "fix that, and `make track` records it"
    warning = f"warning: not recorded in MLflow: MLflow cannot be imported: Unknown level: 'CHATTY'; {remedy}\n"
    assert run_stage("mlflow_logger.record('samples')") == (0, warning)


@pytest.mark.slow
def test_a_trickling_server_costs_at_most_ten_seconds():
    code = """
with mlflow_logger.live_run(**TRAINING, resumed=False):
    send(ROWS)
    sys.stdin.readline()
    started = time.monotonic()
    mlflow_logger.record("training")
    print(time.monotonic() - started)
"""
    trickle = Answer(status=200, body=b" " * 100_000, pause=1)  # a byte a second
    with file_server({}, [trickle] * 50) as server, stage(code, MLFLOW_TRACKING_URI=server.url) as process:
        wait_for(lambda: server.requests, 100)  # MLflow is imported, which takes longer on a busy machine
        out, error = process.communicate("\n", timeout=100)
    assert process.returncode == 0
    assert error == "warning: not recorded in MLflow: no answer for 10 s; `make track` records it later\n"
    assert 0.1 < float(out) < 11


def test_only_rank_0_starts_a_process_and_no_rank_imports_slow_packages():
    code = (
        "import sys; from cola.report import mlflow_logger; mlflow_logger.start(); "
        "print(mlflow_logger._logger is None, {*sys.modules} & {'mlflow', 'pandas', 'numpy', 'torch', 'requests'})"
    )
    printed = [run_to_end([sys.executable, "-c", code], RANK=rank).stdout for rank in "01"]
    assert printed == ["False set()\n", "True set()\n"]
