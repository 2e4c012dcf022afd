"""Experiments on a cluster: refusals, a worker's steps, and a real Dask cluster that loses one of its two workers."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import dask
import pytest
from distributed import LocalCluster
from dvc.repo import Repo
from mlflow.tracking import MlflowClient
from processes import running, wait_for
from project import MINILM, ROOT, copy_project

from cola.core.errors import UserError
from cola.experiments import cluster
from cola.report import mlflow_store


@pytest.fixture
def project_for_a_cluster(tmp_path, run):
    """A project whose commit is in a git remote, with a folder as DVC's remote; and the address of its MLflow."""
    project, stores = tmp_path / "project", tmp_path / "stores"
    stores.mkdir()
    recipe = {"train__learning_rate": 1e-4, "train__max_steps": 4}
    copy_project(project, fetch__corpus="corpora/example", fetch__encoder=MINILM, **recipe)
    run(project, "dvc", "remote", "add", "--default", "store", str(stores / "dvc"))
    run(project, "git", "commit", "--quiet", "--all", "--message", "a store")
    run(project, "git", "init", "--quiet", "--bare", str(stores / "git"))
    run(project, "git", "remote", "add", "origin", str(stores / "git"))
    run(project, "git", "push", "--quiet", "origin", "HEAD:main")
    server = f"sqlite:///{stores}/mlflow.db"
    MlflowClient(server).create_experiment(mlflow_store.EXPERIMENT, (stores / "files").as_uri())
    return project, server


@pytest.fixture
def dask_cluster(environment, tmp_path):
    """A scheduler's address, and its two workers' processes, by the folders that they work in."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    settings = {"cwd": ROOT, "env": environment | {"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}}
    dask, port_file = str(Path(sys.executable).with_name("dask")), folder / "scheduler.json"
    with ExitStack() as stack:

        def start(name, *arguments):
            command = [dask, *arguments, "--no-dashboard"]
            return stack.enter_context(running(command, folder / f"{name}.log", **settings))

        start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(port_file))
        # Dask makes the file before it writes it.
        wait_for(lambda: port_file.exists() and port_file.stat().st_size, 60, (folder / "scheduler.log").read_text)
        address, workers = json.loads(port_file.read_text())["address"], {}
        for name in ("one", "two"):
            arguments = ["--nthreads", "1", "--local-directory", str(folder / name)]
            workers[folder / name] = start(name, "worker", address, *arguments)
        yield address, workers


@pytest.fixture
def small(project, git, tmp_path, monkeypatch):
    """The small project, pushed, with a folder as DVC's remote. Returns the git remote."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///nowhere.db")
    with Repo().config.edit("repo") as config:
        config["core"]["remote"] = "store"
        config["remote"]["store"] = {"url": str(tmp_path / "dvc")}
    remote = tmp_path / "git"
    git("init", "--quiet", "--bare", str(remote))
    git("remote", "add", "origin", str(remote))
    git("commit", "--quiet", "--all", "--message", "a store")
    git("push", "--quiet", "origin", "HEAD:main")
    return remote


def read_refusal():
    with pytest.raises(UserError) as error:
        cluster.run_experiments({"seed-1": {"seed": 1}})
    return str(error.value)


def test_files_that_workers_cannot_clone_are_refused(small, project, git, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    fault = "a cluster's runs need one MLflow server: set MLFLOW_TRACKING_URI to one that its workers reach"
    assert read_refusal() == fault
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///nowhere.db")
    (project / "params.yaml").write_text("seed: 43\n")
    assert read_refusal() == "a cluster trains the commit: commit first what has changed (params.yaml)"
    git("commit", "--quiet", "--all", "--message", "mine")
    assert read_refusal() == "a cluster's workers clone `origin`, which lacks this commit: git push"
    with Repo().config.edit("repo") as config:
        del config["core"]["remote"]
    git("commit", "--quiet", "--all", "--message", "no store")
    assert read_refusal().startswith("a cluster's results need a DVC remote: `dvc remote add --default`, then")


def test_a_cluster_that_does_not_answer_is_one_line(small, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    with dask.config.set({"scheduler-address": "tcp://127.0.0.1:9"}):
        assert read_refusal().startswith("no cluster, or one without workers (make worker): ")


@pytest.mark.slow
def test_an_experiment_that_fails_three_times_is_named_with_its_fault(small, tmp_path, monkeypatch):
    tries = tmp_path / "tries"

    def run_on_worker(project, name, settings, last_stages):
        with tries.open("a") as file:  # Dask gives its worker a copy of this function
            print(name, file=file)
        if name == "seed-2":
            raise UserError("dvc exp run: it is broken")

    monkeypatch.setattr(cluster, "run_on_worker", run_on_worker)
    addresses = {"dashboard_address": None, "worker_dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, **addresses) as dask_cluster,
        dask.config.set({"scheduler-address": dask_cluster.scheduler_address}),
        pytest.raises(UserError, match=r"^seed-2 failed: dvc exp run: it is broken$"),
    ):
        cluster.run_experiments({"seed-1": {"seed": 1}, "seed-2": {"seed": 2}})
    assert sorted(tries.read_text().split()) == ["seed-1", "seed-2", "seed-2", "seed-2"]


@pytest.mark.slow
def test_a_worker_pushes_an_experiment_which_no_worker_runs_again(small, project, git, tmp_path, monkeypatch):
    folder = f"{project.name}/"
    pushed = cluster.Project(str(small), git("rev-parse", "HEAD"), folder, "sqlite:///nowhere.db")
    for worker in ("first", "second"):
        local = tmp_path / worker
        local.mkdir()
        monkeypatch.setattr(cluster, "get_worker", lambda local=local: SimpleNamespace(local_directory=local))
        cluster.run_on_worker(pushed, "seed-1", {"seed": 1}, ["train"])
        assert git("ls-remote", str(small), "refs/exps/*").endswith("/seed-1")
    (trained,) = tmp_path.glob(f"*/*/{folder}trained")
    assert trained.read_text() == "seed: 1\n"
    assert trained.is_relative_to(tmp_path / "first")
    assert not (trained.parent / "metrics/test.json").exists(), "a stage that the last one does not need has run"


@pytest.mark.slow
def test_a_worker_is_killed_and_no_seed_is_lost(project_for_a_cluster, dask_cluster, environment, run):
    project, server = project_for_a_cluster
    address, workers = dask_cluster
    settings = {"DASK_SCHEDULER_ADDRESS": address, "MLFLOW_TRACKING_URI": server}
    seeds = subprocess.Popen(
        ["make", "seeds", "N=2"],
        cwd=project,
        env=environment | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    victim = next(iter(workers))
    trains = "*/*/*/data/tokenized/train.parquet"
    wait_for(lambda: list(victim.glob(trains)) or seeds.poll() is not None, 200)
    assert seeds.poll() is None, seeds.communicate()[0]
    os.killpg(workers[victim].pid, signal.SIGKILL)
    printed, _ = seeds.communicate(timeout=600)
    assert seeds.returncode == 0, printed
    assert "not comparable with" in printed

    summary = json.loads((project / "metrics/seeds.json").read_text())
    assert summary["mcc"].keys() == {"1", "2"}
    assert (project / "metrics/seeds.png").read_bytes().startswith(b"\x89PNG")
    client = MlflowClient(server)
    runs = client.search_runs([client.get_experiment_by_name(mlflow_store.EXPERIMENT).experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["2 seeds", "seed-1", "seed-2"]
    mccs = {run.info.run_name: run.data.metrics["test_mcc"] for run in runs if run.info.run_name != "2 seeds"}
    assert mccs == {f"seed-{seed}": mcc for seed, mcc in summary["mcc"].items()}
    run(project, "dvc", "exp", "pull", "--quiet", "origin", "seed-2")
    run(project, "dvc", "exp", "apply", "seed-2")
    assert (project / "models/finetuned/model.safetensors").exists()
