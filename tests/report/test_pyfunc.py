"""The model in MLflow: a reference to its files, which `mlflow models serve` finds in the workspace or DVC's cache."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import requests
import tiny
import torch
from dvc.repo import Repo
from mlflow.tracking import MlflowClient
from processes import free_port, running, wait_for
from project import ROOT

from cola.core import files, paths
from cola.core.errors import UserError
from cola.data import encoding
from cola.fetch.tables import COLA_LABELS
from cola.model import classifier
from cola.report import mlflow_runs, pyfunc


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project under DVC with a model, of which MLflow has the reference."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Repo.init(no_scm=True).close()
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "encoder").mkdir()
    tiny.encoder(tmp_path / "encoder")
    with files.atomic_folder(paths.FINETUNED) as folder:
        classifier.save(classifier.load(tmp_path / "encoder", torch.device("cpu"), COLA_LABELS), folder)
        encoding.load_tokenizer(tmp_path / "encoder").save_pretrained(folder)
    files.write_json(tmp_path / "reference.json", pyfunc.reference())
    return tmp_path


def classified(project):
    texts = tiny.sentences(3).rename(columns={"sentence": "text"})
    return pyfunc._load_pyfunc(str(project / "reference.json")).predict(texts)


def test_a_model_is_found_in_the_workspace_then_in_dvcs_cache(project):
    expected = classified(project)
    assert set(expected["label"]) <= set(COLA_LABELS)
    assert expected["probability"].between(0.5, 1).all()
    with Repo() as repo:
        repo.add(str(paths.FINETUNED))
    (paths.FINETUNED / "config.json").unlink()
    weights = bytearray((paths.FINETUNED / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (paths.FINETUNED / "model.safetensors").unlink()  # it may be a link into the cache
    (paths.FINETUNED / "model.safetensors").write_bytes(weights)
    assert classified(project).equals(expected)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_model_that_is_nowhere_or_another_is_refused_in_one_line(project, name):
    (paths.FINETUNED / name).write_bytes(b"{}")
    refusal = f"^{name} of this model is neither in models/finetuned nor in DVC's cache: `dvc pull` may bring it$"
    with pytest.raises(UserError, match=refusal):
        classified(project)


@pytest.mark.slow
def test_mlflow_serves_it_and_has_no_copy_of_the_weights(project):
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.create_experiment("any", (project / "mlruns").as_uri())
    run = client.create_run(experiment)
    mlflow_runs._log_model(client, run.info.run_id, run.info.experiment_id)
    assert not list((project / "mlruns").rglob("*.safetensors"))
    logged = [path for path in (project / "mlruns").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in logged) < 500_000

    port, programs = free_port(), Path(sys.executable).parent
    command = [programs / "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", f"runs:/{run.info.run_id}/model", "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}
    environment["PATH"] = f"{programs}:{environment['PATH']}"  # mlflow starts uvicorn by its name
    environment.pop("PYTHONPATH", None)

    def answer():
        try:
            texts = {"inputs": {"text": ["word1 word2", "word30"]}}
            return requests.post(f"http://127.0.0.1:{port}/invocations", json=texts, timeout=30).json()
        except requests.ConnectionError:
            return None

    with running(command, project / "log", env=environment):
        predictions = wait_for(answer, 90, (project / "log").read_text)["predictions"]
    assert [predicted["label"] in COLA_LABELS for predicted in predictions] == [True, True]
