"""The process that logs a stage, seen from real stages: small programs that start it as stages/train.py does."""

import os
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from processes import finished, wait_for
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


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with results, and with the library from elsewhere."""
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_ROOT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    write_results()
    return tmp_path


@pytest.fixture
def project(root, empty_database):
    """Such a project in which MLflow has its tables."""
    shutil.copy(empty_database, root)
    return root


@contextmanager
def stage(code, **variables):
    """A stage that runs STAGE and this code in the working directory, in a group of processes as in a terminal."""
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
    """Run such a stage to its end. Returns (its status, what it prints on standard error)."""
    with stage(code) as process:
        _, error = process.communicate(timeout=100)
        return process.returncode, error


def child_of(process):
    """The id of the process that logs a stage."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(wait_for(children.read_text, 30))


def is_gone(pid):
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def runs(root):
    """(run, {step: [loss]}) of each run, the newest first."""
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("bert-cola")
    listed = []
    for run in client.search_runs([experiment.experiment_id]) if experiment else ():
        losses = {}
        for point in client.get_metric_history(run.info.run_id, "loss"):
            losses.setdefault(point.step, []).append(point.value)
        listed.append((run, losses))
    return listed


def only_run(root, status, steps=0):
    """The only run, once it has this status and so many steps; and its losses."""

    def has_come():
        return [run for run, losses in runs(root) if run.info.status == status and len(losses) >= steps]

    wait_for(has_come, 60, lambda: str(runs(root)))
    ((run, losses),) = runs(root)
    return run, losses


@pytest.mark.slow
def test_a_stage_is_recorded_when_record_returns(root):
    assert run_stage("mlflow_logger.record('samples')") == (0, "")
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("bert-cola").experiment_id])
    assert {"learning_curve.png", "samples.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_a_training_is_there_from_its_first_step_grows_and_ends_with_its_files(project):
    code = """
with mlflow_logger.live_run(**TRAINING, resumed=False) as log:
    sys.stdin.readline()
    log("step", {"step": 1, "loss": 0.1 + 0.2})
    sys.stdin.readline()
    log("epoch", {"epoch": 1, "validation_mcc": 0.25})
    mlflow_logger.record("training")
"""
    with stage(code, DVC_EXP_NAME="demo") as process:
        run, losses = only_run(project, "RUNNING")
        assert run.info.run_name == "demo"
        assert (run.data.tags["corpus"], run.data.tags["device"]) == ("cola", "cpu")
        assert losses == {}
        process.stdin.write("\n")
        process.stdin.flush()
        run, losses = only_run(project, "RUNNING", 1)
        assert losses == {1: [0.1 + 0.2]}
        assert run.data.params == {"seed": "42"}
        _, error = process.communicate("\n", timeout=60)
    assert (process.returncode, error) == (0, "")
    run, losses = only_run(project, "FINISHED")
    assert losses == {1: [0.1 + 0.2], 2: [0.6]}, "the files have the second step, too"
    assert run.data.metrics["validation_mcc"] == 0.25
    assert run.data.tags["device"] == "cpu, 2 threads"
    assert len(run.data.tags["model.sha256"]) == 64


def test_an_error_makes_the_run_failed(project):
    code = """
with mlflow_logger.live_run(**TRAINING, resumed=False):
    send(ROWS[:1])
    raise ValueError
"""
    status, error = run_stage(code)
    assert status == 1
    assert error.strip().endswith("ValueError")
    assert only_run(project, "FAILED")[1] == {1: [0.125]}


@pytest.mark.slow
def test_control_c_makes_the_run_killed(project):
    code = """
with mlflow_logger.live_run(**TRAINING, resumed=False):
    send(ROWS[:1])
    time.sleep(100)
"""
    with stage(code) as process:
        only_run(project, "RUNNING", 1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the process that logs, too
        _, error = process.communicate(timeout=60)
    assert error.strip().endswith("KeyboardInterrupt")
    assert only_run(project, "KILLED")[1] == {1: [0.125]}


def killed(project, resumed, rows, steps):
    """A stage that is killed once MLflow has so many steps of these rows."""
    code = f"""
with mlflow_logger.live_run(**TRAINING, resumed={resumed}):
    send(ROWS[{rows.start} : {rows.stop}])
    time.sleep(100)
"""
    with stage(code) as process:
        child = child_of(process)
        wait_for(lambda: runs(project) and len(runs(project)[0][1]) == steps, 60, lambda: str(runs(project)))
        process.kill()
        wait_for(lambda: is_gone(child), 5, lambda: "the process that logs goes on without its stage")


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_in_its_run_and_no_step_is_there_twice(project):
    killed(project, False, range(2), 2)
    first, losses = only_run(project, "RUNNING")
    assert losses == {1: [0.125], 2: [0.25]}
    killed(project, True, range(1, 3), 3)
    again, losses = only_run(project, "RUNNING")
    assert losses == {1: [0.125], 2: [0.25], 3: [0.375]}
    assert again.info.run_id == first.info.run_id
    killed(project, False, range(1), 1)
    assert [len(losses) for _, losses in runs(project)] == [1, 3], "from its start, it is another run"


@pytest.mark.slow
def test_a_training_waits_for_no_logger(project):
    """It is stopped, so that it reads nothing."""
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
        only_run(project, "RUNNING")
        child = child_of(process)
        os.kill(child, signal.SIGSTOP)
        process.stdin.write("\n")
        process.stdin.flush()
        assert float(process.stdout.readline()) < 2
        os.kill(child, signal.SIGCONT)
        _, error = process.communicate("\n", timeout=100)
    assert error == ""
    assert only_run(project, "FINISHED")[1] == {step: [0.5] for step in range(1, count + 1)}


def test_a_logger_that_is_killed_costs_a_warning(root):
    code = "os.kill(mlflow_logger._logger.process.pid, 9); mlflow_logger.record('training')"
    assert run_stage(code) == (
        0,
        "warning: not recorded in MLflow: the process that records was killed; `make track` records it later\n",
    )
    assert not (root / "mlflow.db").exists()


@contextmanager
def trickling_server():
    """The address of a server that takes every connection, and sends a byte a second for ever."""

    class Trickle(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(1)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            with suppress(OSError):
                while True:
                    time.sleep(1)
                    self.request.sendall(b" ")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickle) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
def test_a_server_that_trickles_while_a_training_runs_costs_at_most_ten_seconds(root):
    code = """
with mlflow_logger.live_run(**TRAINING, resumed=False):
    send(ROWS)
    time.sleep(10)  # MLflow is imported, and asks the server
    started = time.monotonic()
    mlflow_logger.record("training")
    print(time.monotonic() - started)
"""
    with trickling_server() as url, stage(code, MLFLOW_TRACKING_URI=url) as process:
        out, error = process.communicate(timeout=100)
    assert process.returncode == 0
    assert error == "warning: not recorded in MLflow: no answer for 10 s; `make track` records it later\n"
    assert 0.1 < float(out) < 11


def test_rank_0_alone_starts_a_process_and_imports_nothing_that_takes_seconds():
    code = (
        "import sys; from cola.report import mlflow_logger; mlflow_logger.start(); "
        "print(mlflow_logger._logger is None, {*sys.modules} & {'mlflow', 'pandas', 'numpy', 'torch', 'requests'})"
    )
    printed = [finished([sys.executable, "-c", code], RANK=rank).stdout for rank in "01"]
    assert printed == ["False set()\n", "True set()\n"]
