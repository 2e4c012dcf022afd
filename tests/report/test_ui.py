"""`make ui`: MLflow's server, the addresses that lead to the runs, and a browser where there is a desktop."""

import json
import os
import re
import shutil
import signal
import sys
import time

from mlflow.tracking import MlflowClient
from processes import free_port, running, wait_for
from project import ROOT


def test_it_prints_where_the_runs_are_opens_them_on_a_desktop_and_ends_with_control_c(tmp_path, empty_database):
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    shutil.copy(empty_database, tmp_path)
    browser = tmp_path / "browser"  # as BROWSER names one
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    desktop = {"DISPLAY": ":7", "BROWSER": f"{browser} %s", "PYTHONPATH": str(ROOT)}
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "cola.report.ui", str(port)]
    with running(command, log, cwd=tmp_path, env=os.environ | desktop) as process:
        opened = tmp_path / "opened"
        wait_for(lambda: opened.exists() and opened.read_text(), 120, log.read_text)
        client = MlflowClient(f"http://127.0.0.1:{port}")
        experiment = client.get_experiment_by_name("bert-cola")
        runs = f"http://127.0.0.1:{port}/#/experiments/{experiment.experiment_id}/runs"
        runs += "?workflowType=machine_learning&viewStateShareKey=results"
        assert opened.read_text() == f"{runs}\n"
        assert re.findall("^(runs|charts|samples): (.*)$", log.read_text(), re.MULTILINE) == [
            ("runs", runs),
            ("charts", f"{runs}&compareRunsMode=CHART"),
            ("samples", f"{runs}&compareRunsMode=ARTIFACT"),
        ]
        view = json.loads(experiment.tags["mlflow.sharedViewState.results"])
        columns = ["metrics.`test_mcc`", "tags.`encoder`", "tags.`corpus`", "params.`seed`"]
        assert view["selectedColumns"] == view["columnOrder"] == columns
        pressed = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - pressed < 10
    assert "cola/report" not in log.read_text(), "a traceback of ours; uvicorn may print one"
