"""A team's MLflow: a server with a real PostgreSQL, to which eight trainings record at once."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from processes import find_free_port, mlflow_answers, running, wait_for
from project import ROOT
from test_distributed import build_project, train

from cola.report import mlflow_store

pytestmark = pytest.mark.slow
RUNS = 8
RECORD = """
from cola.report import mlflow_logger
mlflow_logger.start()
from cola.core import files, params, paths
timings = files.read_json(paths.TIMINGS)
with mlflow_logger.live_run(
    settings=params.flatten(params.load(paths.PARAMS)),
    source=files.read_json(paths.FINETUNED / "source.json"),
    machine={name: timings[name] for name in ("device", "precision")},
    resumed=False,
):
    mlflow_logger.record("training")
"""  # as the stage train does


@pytest.fixture
def database():
    """The address of an empty database in a PostgreSQL that this test starts."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not installed:
        pytest.skip("PostgreSQL is needed: Debian's package postgresql")
    folder, port = Path(tempfile.mkdtemp()), find_free_port()  # the user postgres cannot enter tmp_path
    owner = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        owner = [str(shutil.which("runuser", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")), "-u", "postgres", "--"]

    def run_postgresql(tool, *arguments):
        command = [*owner, str(installed[-1].with_name(tool)), *arguments]
        with (folder / "log").open("a") as log:
            subprocess.run(command, cwd=folder, check=True, stdout=log, stderr=log)

    data, options = str(folder / "data"), f"-c listen_addresses=127.0.0.1 -p {port} -k {folder}"
    run_postgresql("initdb", "-D", data, "-U", "mlflow", "--auth=trust")
    run_postgresql("pg_ctl", "-D", data, "-o", options, "-w", "start")
    try:
        run_postgresql("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow")
        yield f"postgresql://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        run_postgresql("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def server(database, tmp_path):
    """The address of an MLflow server with that database, and a folder for files."""
    port, log = find_free_port(), tmp_path / "mlflow.log"
    command = [Path(sys.executable).with_name("mlflow"), "server", "--backend-store-uri", database, "--workers", "2"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--artifacts-destination", str(tmp_path / "files")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with running(command, log, cwd=tmp_path, env=environment):
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: mlflow_answers(address), 120, log.read_text)
        yield address


def test_eight_trainings_at_once_are_all_recorded(server, tmp_path):
    done = build_project(tmp_path / "done")
    (done / "metrics/corpus.json").write_text("{}")
    train(done)
    workers = []
    for number in range(RUNS):
        copy = shutil.copytree(done, tmp_path / f"copy{number}")
        environment = os.environ | {"MLFLOW_TRACKING_URI": server, "PYTHONPATH": str(ROOT), "DVC_EXP_NAME": copy.name}
        command = [sys.executable, "-c", RECORD]
        workers.append(subprocess.Popen(command, cwd=copy, env=environment, stderr=subprocess.PIPE, text=True))
    printed = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * RUNS
    assert [text for text in printed if "warning" in text] == []
    client = MlflowClient(server)
    (experiment,) = client.search_experiments(filter_string=f"name = '{mlflow_store.EXPERIMENT}'")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {f"copy{number}" for number in range(RUNS)}
    expected = json.loads((done / "metrics/train.json").read_text())
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["validation_mcc"] == pytest.approx(expected["validation_mcc"])
        assert len(client.get_metric_history(run.info.run_id, "loss")) == 26
        files = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert {"history.csv", "steps.csv", "timings.json", "learning_curve.png"} <= files
