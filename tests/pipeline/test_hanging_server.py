"""MLflow's server from `make ui`: only this machine reaches it, and `make track` repeats a record that it missed."""

import json
import os
import signal

import psutil
import pytest
from mlflow.tracking import MlflowClient
from processes import find_free_port, mlflow_answers, running, wait_for
from project import outputs


def find_listening(port):
    """The addresses on which a server listens at a port."""
    servers = [connection for connection in psutil.net_connections("tcp") if connection.status == "LISTEN"]
    return {server.laddr.ip for server in servers if server.laddr.port == port}


@pytest.fixture
def server(applied, environment):
    """`make ui` in a project with a result, and without a record of it: its process group and port."""
    (applied / "mlflow.db").unlink()
    port, log = find_free_port(), applied.parent / "ui.log"
    with running(["make", "ui", f"PORT={port}"], log, cwd=applied, env=environment) as process:
        wait_for(lambda: mlflow_answers(f"http://127.0.0.1:{port}"), 120, log.read_text)
        yield process.pid, port


@pytest.mark.slow
def test_mlflow_listens_locally_and_make_track_records_after_it_hung(applied, server, run):
    group, port = server
    assert find_listening(port) == {"127.0.0.1"}
    before = outputs(applied)
    client = MlflowClient(f"http://127.0.0.1:{port}")

    os.killpg(group, signal.SIGSTOP)  # it accepts connections, and never answers
    uri = {"MLFLOW_TRACKING_URI": f"http://name:word@127.0.0.1:{port}", "OMP_NUM_THREADS": "2"}
    printed = run(applied, "dvc", "repro", "--force", "--single-item", "train", **uri)
    assert printed.count("warning: not recorded in MLflow") == 1
    assert "name:word" not in printed
    assert outputs(applied) == before
    os.killpg(group, signal.SIGCONT)
    wait_for(lambda: mlflow_answers(f"http://127.0.0.1:{port}"), 120)  # first it reads the requests that timed out

    printed = run(applied, "make", "track", **uri)
    assert "recorded in MLflow: training, evaluation and samples" in printed
    assert "name:word" not in printed
    run(applied, "make", "track", **uri)
    (recorded,) = client.search_runs([client.get_experiment_by_name("bert-cola").experiment_id])
    assert recorded.data.metrics["test_mcc"] == json.loads((applied / "metrics/test.json").read_text())["mcc"]
    assert len(client.get_metric_history(recorded.info.run_id, "loss")) == 20
