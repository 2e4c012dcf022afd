"""Where records go, in real databases, and the warnings of an MLflow that refuses them."""

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from loopback import Answer, file_server
from mlflow.tracking import MlflowClient
from project import list_runs
from results import write_results

from cola.core.errors import UserError
from cola.report import mlflow_logger, mlflow_store


def list_files_of_runs(uri):
    """The names of each run's files in a store."""
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
    (files,) = list_files_of_runs(absolute.get(uri, (root / "mine").as_uri()))
    assert {"samples.json", "learning_curve.png"} <= files
    assert {path.name for path in Path().iterdir()} == {"data", "metrics", "models", "params.yaml"}, "of the copy"


@pytest.mark.slow
def test_a_database_that_another_process_holds_is_a_warning_of_one_line(root, capfd):
    write_results()
    mlflow_logger.record("evaluation")
    with closing(sqlite3.connect(root / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        mlflow_logger.record("evaluation")
        (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith("warning: not recorded in MLflow: ")
    assert "database is locked" in warning
    assert warning.endswith("; `make track` records it later")
    mlflow_logger.record("evaluation")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("relocate", [shutil.move, shutil.copytree])
def test_a_moved_or_copied_project_records_there_and_has_its_earlier_files(root, monkeypatch, relocate):
    write_results(b"before")
    mlflow_logger.record("samples")
    before = sorted(path for path in root.rglob("*") if "mlruns" in path.parts)
    assert before
    elsewhere = root.with_name("else where? 100%25 #1")
    relocate(root, elsewhere)
    monkeypatch.setenv("DVC_ROOT", str(elsewhere))
    write_results(b"after")
    mlflow_logger.record("samples")
    client, recorded = list_runs(elsewhere)
    assert len(recorded) == 2
    for run in recorded:
        assert run.info.artifact_uri.startswith((elsewhere / "mlruns").as_uri())
        assert "samples.json" in {file.path for file in client.list_artifacts(run.info.run_id)}
    left = sorted(path for path in root.rglob("*") if "mlruns" in path.parts) if root.exists() else []
    assert left == ([] if relocate is shutil.move else before)


def test_a_project_in_any_folder_makes_no_folder_beside_it(bare_root, monkeypatch):
    project = bare_root.rename(bare_root.with_name("it's é [here]"))
    monkeypatch.setenv("DVC_ROOT", str(project))
    write_results()
    mlflow_logger.record("samples")
    assert len(list_runs(project)[1]) == 1
    assert {path.name for path in project.parent.iterdir()} == {project.name, "copy"}


def test_a_folder_for_files_that_a_user_chose_stays(root):
    (root.parent / "large/mlruns").mkdir(parents=True)
    MlflowClient(f"sqlite:///{root}/mlflow.db").create_experiment("bert-cola", (root.parent / "large/mlruns").as_uri())
    write_results()
    mlflow_logger.record("samples")
    (run,) = list_runs(root)[1]
    assert (root.parent / "large/mlruns" / run.info.run_id / "artifacts/samples.json").exists()


@pytest.mark.parametrize("number", [False, True])
def test_mlflows_variables_name_the_experiment(root, monkeypatch, capfd, number):
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    if number:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", client.create_experiment("team-a"))
    else:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "team-a")
    monkeypatch.setenv("MLFLOW_RUN_ID", "deadbeef")
    write_results()
    mlflow_logger.record("training")
    assert capfd.readouterr().err == ("warning: MLFLOW_RUN_ID is not used: a training makes a new run in MLflow\n")
    assert len(client.search_runs([client.get_experiment_by_name("team-a").experiment_id])) == 1
    assert client.get_experiment_by_name("bert-cola") is None


def record_warning(capfd):
    """Record samples. Returns the only line on standard error."""
    mlflow_logger.record("samples")
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith("warning: not recorded in MLflow: ")
    return warning


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("TRACKING_URI", "./mine", "MLFLOW_ALLOW_FILE_STORE=true"),
        ("TRACKING_URI", "joe:a-secret@127.0.0.1:5000", "at 127.0.0.1:5000, has no scheme: begin it with http://;"),
        ("EXPERIMENT_NAME", "n" * 501, "exceeds the maximum"),
        ("EXPERIMENT_ID", "77", "No Experiment with id=77"),
    ],
)
def test_a_refusal_is_one_line_with_mlflows_reason(root, monkeypatch, capfd, variable, value, reason):
    monkeypatch.setenv(f"MLFLOW_{variable}", value)
    write_results()
    warning = record_warning(capfd)
    assert reason in warning
    assert "a-secret" not in warning
    assert warning.endswith("; fix that, and `make track` records it")


@pytest.mark.parametrize("password", ["ab12/cd34", "ab12 cd34", "ab12@cd34", "ab12?cd34", "ab12#cd34", "ab12:cd34"])
@pytest.mark.parametrize("uri", ["http://mlflow:{}@127.0.0.1:9", "postgresql+psycopg://mlflow:{}@127.0.0.1:9/mlflow"])
def test_no_part_of_a_password_is_shown(root, monkeypatch, capfd, uri, password):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(password))
    write_results()
    assert not re.search("ab12|cd34", record_warning(capfd))


@pytest.mark.parametrize(
    ("server", "reason", "remedy"),
    [
        ("closed", "Connection refused", "`make track` records it later"),
        ("closed database", "Connection refused", "`make track` records it later"),
        ("unencrypted", "WRONG_VERSION_NUMBER", "fix that, and `make track` records it"),
        ("broken", "500 error", "`make track` records it later"),
        pytest.param("hanging", "timed out", "`make track` records it later", marks=pytest.mark.slow),
        ("website", "error code 404", "fix that, and `make track` records it"),
    ],
)
def test_a_bad_server_costs_seconds_and_a_line(bare_root, monkeypatch, capfd, server, reason, remedy):
    answer = {"hanging": Answer(seconds=30), "broken": Answer(status=500)}.get(server, Answer(status=404))
    write_results()
    with file_server({}, script=[answer] * 50) as bad:
        scheme = {"closed database": "postgresql+psycopg", "unencrypted": "https"}.get(server, "http")
        address = "127.0.0.1:9" if "closed" in server else bad.url.removeprefix("http://")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://someone:a-secret@{address}")
        started = time.monotonic()
        warning = record_warning(capfd)
        seconds = time.monotonic() - started
    assert reason in warning
    assert warning.endswith(f"; {remedy}")
    assert "a-secret" not in warning
    assert seconds < 8
    assert not (bare_root / "mlflow.db").exists()


@pytest.fixture
def show_runs(monkeypatch, capfd):
    """show_runs(port) returns the printed text, and the port and the store of the server, which is not started."""

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
def test_make_ui_shows_the_projects_runs_on_a_free_port(root, monkeypatch, show_runs, uri):
    shutil.copy(root / "mlflow.db", root / "mine.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_STATIC_PREFIX", "/mlflow")
    printed, port, store = show_runs()
    assert "MLFLOW_STATIC_PREFIX" not in os.environ
    assert printed.out == f"the runs: http://127.0.0.1:{port}/#/experiments/1?workflowType=machine_learning\n"
    assert int(port) > 1023
    assert store == f"sqlite:///{root}/{'mine' if 'mine' in uri else 'mlflow'}.db"


@pytest.mark.slow
def test_a_deleted_experiment_is_shown_and_restored_by_the_command_in_the_warning(root, show_runs, capfd):
    write_results()
    mlflow_logger.record("samples")
    MlflowClient(f"sqlite:///{root}/mlflow.db").delete_experiment("1")
    printed, port, _ = show_runs()
    assert printed.out == f"the runs: http://127.0.0.1:{port}/#/experiments\n"
    warning = record_warning(capfd)
    assert "bert-cola was deleted" in warning
    (command,) = re.findall("`(MLFLOW_TRACKING_URI=[^`]*)`", warning)
    assert command in printed.err
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command, shell=True, check=True, env=os.environ | {"PATH": path})  # noqa: S602
    capfd.readouterr()
    mlflow_logger.record("samples")
    assert capfd.readouterr().err == ""


def test_an_old_database_is_one_line_with_mlflows_whole_remedy(root, monkeypatch, capfd, show_runs):
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'cc1f77228345'")
    remedy = f"Take a backup of your database, then run 'mlflow db upgrade sqlite:///{root}/mlflow.db'"
    with pytest.raises(UserError, match=rf"^MLflow cannot show the runs: .*{remedy}"):
        show_runs()
    write_results()
    warning = record_warning(capfd)
    assert re.search(rf"{remedy}.*; fix that, and `make track` records it$", warning)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", re.search("MLFLOW_TRACKING_URI=([^;]*)", warning)[1])
    mlflow_logger.record("samples")
    assert capfd.readouterr().err == ""


def test_a_port_that_cannot_be_used_is_one_line_with_the_remedy(root, show_runs):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (str(taken.getsockname()[1]), "70000", "http"):
            refusal = rf"^port {port} cannot be used \(.*\): choose another, as in `make ui PORT=5001`$"
            with pytest.raises(UserError, match=refusal):
                show_runs(port)
