"""A project with a result, and a project in which DVC runs a stage, for tests of the records in MLflow."""

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from results import write_results


@pytest.fixture
def result(tmp_path, monkeypatch):
    """A working directory under DVC, without git, that has the result files of a run. Its test MCC is 0.4321."""
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    Path("dvc.yaml").write_text("stages: {}")
    write_results(mcc=0.4321)


@pytest.fixture
def bare_root(tmp_path, monkeypatch):
    """The main project. DVC runs a stage in a copy of it, the working directory."""
    for name in ("project/.dvc/tmp", "copy"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    for name in ("TRACKING_URI", "EXPERIMENT_NAME", "EXPERIMENT_ID", "RUN_ID", "ALLOW_FILE_STORE"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return tmp_path / "project"


@pytest.fixture
def root(bare_root, empty_database):
    """Such a project in which MLflow has its tables."""
    shutil.copy(empty_database, bare_root)
    return bare_root
