"""A small project for tests of experiments, through real git and DVC."""

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from project import ROOT

from cola.report.revision import run_program

DVC_YAML = """
stages:
  train:
    cmd: >-
      if grep -q 'seed. 99' params.yaml; then echo asleep; exec sleep 60; fi; echo $OMP_NUM_THREADS > threads;
      grep -o '^seed. [0-9]*' params.yaml > trained; ! grep 13 trained
    params: [seed, fetch.corpus]
    outs: [trained, threads]
  test:
    cmd: echo '{"mcc":' 0.$(tr -dc 0-9 < trained) '}' > metrics/test.json
    deps: [trained]
    metrics: [metrics/test.json: {cache: false}]
metrics: [metrics/reference.json]
"""


@pytest.fixture
def git():
    return lambda *arguments: run_program("git", *arguments).strip()


@pytest.fixture
def project(git, tmp_path, environment, monkeypatch):
    """A project of two quick stages with the real params.yaml, in which this process is: a folder of a repository.

    The test MCC is 0.SEED. Seed 13 fails. Seed 99 takes a minute, in a `sleep` without a shell around it: a shell
    ignores a SIGINT that comes just as one of its commands ends. The PATH has no .venv.
    """
    for name in ("OMP_NUM_THREADS", "DASK_SCHEDULER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (environment | {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}).items():
        monkeypatch.setenv(name, value)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@localhost")
    project = tmp_path / "larger" / "my project"
    (project / "metrics").mkdir(parents=True)
    monkeypatch.chdir(project)
    git("init", "--quiet", "..")
    Repo.init(subdir=True).close()
    shutil.copy(ROOT / "params.yaml", project)
    Path("dvc.yaml").write_text(DVC_YAML)
    Path("metrics/reference.json").write_text('{"mcc": 0.9}')
    Path(".gitignore").write_text("/trained\n/threads\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "small")
    return project
