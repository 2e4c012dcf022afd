"""Where records are, in real databases, and what is said where MLflow refuses; each remedy that is named is tried."""

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loopback import Answer, file_server
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from results import write_results

from cola.core.errors import UserError
from cola.report import mlflow_logger, mlflow_store


def files_of_runs(uri):
    """The names of the files of each run that a store has."""
    client = MlflowClient(uri)
    listed = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return [{file.path for file in client.list_artifacts(run.info.run_id)} for run in listed]


@pytest.mark.parametrize("uri", ["", "sqlite:///mine.db", "mine", "./mine", "file:mine", "file:./mine"])
def test_a_relative_address_is_in_the_main_project(root, monkeypatch, capfd, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    shutil.copy(root / "mlflow.db", root / "mine.db")
    write_results()
    mlflow_logger.record("samples")
    assert capfd.readouterr().err == ""
    absolute = {"": f"sqlite:///{root}/mlflow.db", "sqlite:///mine.db": f"sqlite:///{root}/mine.db"}
    (files,) = files_of_runs(absolute.get(uri, (root / "mine").as_uri()))
    assert {"samples.json", "learning_curve.png"} <= files
    assert {path.name for path in Path().iterdir()} == {"data", "metrics", "models", "params.yaml"}, "of the copy"


@pytest.mark.parametrize("relocate", [shutil.move, shutil.copytree])
def test_a_project_elsewhere_records_there_and_has_its_earlier_files(root, runs, monkeypatch, relocate):
    write_results(b"before")
    mlflow_logger.record("samples")
    before = sorted(path for path in root.rglob("*") if "mlruns" in path.parts)
    assert before
    elsewhere = root.with_name("else where")
    relocate(root, elsewhere)
    monkeypatch.setenv("DVC_ROOT", str(elsewhere))
    write_results(b"after")
    mlflow_logger.record("samples")
    client, recorded = runs(elsewhere)
    assert len(recorded) == 2
    for run in recorded:
        assert run.info.artifact_uri.startswith((elsewhere / "mlruns").as_uri())
        assert "samples.json" in {file.path for file in client.list_artifacts(run.info.run_id)}
    left = sorted(path for path in root.rglob("*") if "mlruns" in path.parts) if root.exists() else []
    assert left == ([] if relocate is shutil.move else before)


def test_a_place_for_files_that_a_user_chose_is_kept(root, runs):
    (root.parent / "large/mlruns").mkdir(parents=True)
    MlflowClient(f"sqlite:///{root}/mlflow.db").create_experiment("bert-cola", (root.parent / "large/mlruns").as_uri())
    write_results()
    mlflow_logger.record("samples")
    (run,) = runs(root)[1]
    assert (root.parent / "large/mlruns" / run.info.run_id / "artifacts/samples.json").exists()


@pytest.mark.parametrize("number", [False, True])
def test_the_experiment_is_the_one_that_mlflows_variables_name(root, monkeypatch, capfd, number):
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    if number:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", client.create_experiment("team-a"))
    else:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "team-a")
    monkeypatch.setenv("MLFLOW_RUN_ID", "deadbeef")
    write_results()
    mlflow_logger.record("training")
    assert capfd.readouterr().err == ("warning: MLFLOW_RUN_ID is not used: a training makes its own run in MLflow\n")
    assert len(client.search_runs([client.get_experiment_by_name("team-a").experiment_id])) == 1
    assert client.get_experiment_by_name("bert-cola") is None


def delete_experiment(root, monkeypatch):
    MlflowClient(f"sqlite:///{root}/mlflow.db").delete_experiment("1")


def set_variable(name, value):
    return lambda root, monkeypatch: monkeypatch.setenv(name, value)


def run_named_command(warning, monkeypatch):
    """Run the command that a warning names, as in a terminal."""
    (command,) = re.findall(r"['`]((?:MLFLOW_TRACKING_URI=\S+ )?mlflow [^'`]*|MLFLOW_TRACKING_URI=[^`]*)['`]", warning)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command, shell=True, check=True, env=os.environ | {"PATH": path})  # noqa: S602


def set_named_variable(warning, monkeypatch):
    """Set the variable that a warning names, to the value that it names or to one that MLflow takes."""
    ((name, value),) = re.findall(r"(MLFLOW_ALLOW_FILE_STORE|MLFLOW_EXPERIMENT_NAME)(?:=(\w+))?", warning)
    monkeypatch.setenv(name, value or "another")


@pytest.mark.parametrize(
    ("spoil", "reason", "follow"),
    [
        pytest.param(delete_experiment, "bert-cola was deleted", run_named_command, marks=pytest.mark.slow),
        (set_variable("MLFLOW_TRACKING_URI", "./mine"), "filesystem tracking backend", set_named_variable),
        (set_variable("MLFLOW_EXPERIMENT_NAME", "n" * 501), "exceeds the maximum", set_named_variable),
        (set_variable("MLFLOW_EXPERIMENT_ID", "77"), "No Experiment with id=77", set_named_variable),
    ],
)
def test_a_refusal_is_one_line_and_its_remedy_helps(root, monkeypatch, capfd, spoil, reason, follow):
    write_results()
    mlflow_logger.record("samples")
    spoil(root, monkeypatch)
    capfd.readouterr()
    mlflow_logger.record("samples")
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith("warning: not recorded in MLflow: ")
    assert warning.endswith("; fix that, and `make track` records it")
    assert reason in warning
    follow(warning, monkeypatch)
    capfd.readouterr()
    mlflow_logger.record("samples")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("server", ["closed", "broken", pytest.param("hanging", marks=pytest.mark.slow)])
def test_a_server_that_is_away_costs_seconds_and_make_track_is_promised(bare_root, monkeypatch, capfd, server):
    answer = Answer(seconds=30) if server == "hanging" else Answer(status=500)
    write_results()
    with file_server({}, script=[answer] * 50) as bad:
        place = "127.0.0.1:9" if server == "closed" else bad.url.removeprefix("http://")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:a-secret@{place}")
        started = time.monotonic()
        mlflow_logger.record("training")
        seconds = time.monotonic() - started
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith("warning: not recorded in MLflow: ")
    assert warning.endswith("; `make track` records it later")
    reason = {"closed": "Connection refused", "broken": "500 error", "hanging": "timed out"}[server]
    assert reason in warning
    assert "a-secret" not in warning
    assert seconds < 8
    assert not (bare_root / "mlflow.db").exists()


def test_a_server_that_is_no_mlflow_is_told_apart(bare_root, monkeypatch, capfd):
    write_results()
    with file_server({}) as website:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", website.url)
        mlflow_logger.record("training")
    (warning,) = capfd.readouterr().err.splitlines()
    assert "error code 404" in warning
    assert warning.endswith("; fix that, and `make track` records it")


def test_an_experiment_that_another_machine_creates_at_that_moment_is_taken(root, runs, monkeypatch, capfd):
    write_results(b"another's")
    mlflow_logger.record("training")
    write_results()
    get_experiment, asked = MlflowClient.get_experiment_by_name, []

    def known_at_the_second_time(client, name):
        asked.append(name)
        return get_experiment(client, name) if len(asked) > 1 else None

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "get_experiment_by_name", known_at_the_second_time)
        mlflow_logger.record("training")
    assert capfd.readouterr().err == ""
    assert len(asked) > 1
    assert len(runs(root)[1]) == 2


@pytest.fixture
def show_runs(monkeypatch, capfd):
    """show_runs(port) -> (what is printed, the port and the store of the server), without a server."""

    def show_runs(port="0"):
        commands = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "execv", lambda _, command: commands.append(command))
            mlflow_store.show_runs(port)
        ((*_, port, _, _),) = commands
        return capfd.readouterr(), port, os.environ["MLFLOW_BACKEND_STORE_URI"]

    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "")
    return show_runs


@pytest.mark.parametrize("uri", ["", "sqlite:///mine.db", "http://127.0.0.1:9"])
def test_the_server_of_make_ui_has_a_free_port_and_the_runs_here(root, monkeypatch, show_runs, uri):
    shutil.copy(root / "mlflow.db", root / "mine.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    printed, port, store = show_runs()
    assert printed.out == f"the runs: http://127.0.0.1:{port}/#/experiments/1?workflowType=machine_learning\n"
    assert int(port) > 1023
    assert store == f"sqlite:///{root}/{'mine' if 'mine' in uri else 'mlflow'}.db"


def test_the_server_of_make_ui_starts_where_the_experiment_was_deleted(root, monkeypatch, show_runs):
    show_runs()  # makes the experiment
    delete_experiment(root, monkeypatch)
    printed, port, _ = show_runs()
    assert printed.out == f"the runs: http://127.0.0.1:{port}/#/experiments\n"
    assert "mlflow experiments restore --experiment-id 1" in printed.err


def test_a_database_that_mlflow_refuses_is_told_with_the_whole_remedy(root, monkeypatch, capfd, show_runs):
    """MLflow upgrades an older database by itself where it lacks tables: no test can make one for its command."""
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'cc1f77228345'")
    remedy = f"Take a backup of your database, then run 'mlflow db upgrade sqlite:///{root}/mlflow.db'"
    with pytest.raises(UserError, match=rf"^MLflow cannot show the runs: .*{remedy}"):
        show_runs()
    write_results()
    mlflow_logger.record("samples")
    assert re.match(rf"warning: .*{remedy}.*; fix that, and `make track` records it\n$", capfd.readouterr().err)


def test_a_port_that_cannot_be_used_is_one_line_with_the_remedy(root, show_runs):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (str(taken.getsockname()[1]), "70000", "http"):
            refusal = rf"^port {port} cannot be used \(.*\): choose another, as in `make ui PORT=5001`$"
            with pytest.raises(UserError, match=refusal):
                show_runs(port)


def test_a_fault_of_one_part_keeps_back_no_other(root, runs, monkeypatch, capfd):
    def refused(*_, **__):
        raise MlflowException("API request to endpoint /x failed with error code 404 != 200")

    write_results()
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_inputs", refused)
        patch.setattr(MlflowClient, "log_artifact", refused)
        mlflow_logger.record("training")
    reason = "API request to endpoint /x failed with error code 404 != 200"
    assert capfd.readouterr().err == (
        f"warning: not recorded in MLflow: datasets, files ({reason}); fix that, and `make track` records it\n"
    )
    client, (run,) = runs(root)
    assert (run.info.status, run.data.metrics["loss"], run.data.params["seed"]) == ("FINISHED", 0.6, "42")
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["learning_curve.png"]
