"""Results of two runs are told apart, by a real DVC; what the message says to do helps."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from cola.core.errors import UserError
from cola.report import workspace

PIPELINE = """
stages:
  train: {cmd: "cat params.yaml cola/train > model", deps: [cola/train], params: [seed], outs: [model]}
  evaluate: {cmd: "cp model test", deps: [model], outs: [test]}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose two stages have run."""
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    Path("cola").mkdir()
    for name, text in {"dvc.yaml": PIPELINE, "params.yaml": "seed: 1\n", "cola/train": "code\n"}.items():
        Path(name).write_text(text)
    reproduce()


def reproduce(*stages):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [sys.executable, "-m", "dvc", "repro", "--quiet", *stages]
    subprocess.run(command, check=True, env=os.environ | {"PATH": path})


def refusal(with_code=False):
    """What check_one_run says, after which `dvc repro` is run; nothing if it finds nothing."""
    try:
        workspace.check_one_run(with_code)
    except UserError as error:
        reproduce()
        workspace.check_one_run(with_code=True)
        return str(error)
    return None


@pytest.mark.slow
def test_files_of_two_runs_are_refused_until_dvc_repro(project):
    assert refusal(with_code=True) is None
    Path("params.yaml").write_text("seed: 2\n")
    assert refusal() == "the files are not of one run: `dvc repro` (changed since: params.yaml)"
    Path("params.yaml").write_text("seed: 3\n")
    reproduce("train")
    assert refusal() == "the files are not of one run: `dvc repro` (changed since: model)"
    Path("test").write_text("edited")
    assert refusal() == "the files are not of one run: `dvc repro` (changed since: test)"
    Path("cola/train").write_text("other code\n")
    assert refusal() is None
    assert refusal(with_code=True) == "the files are not of one run: `dvc repro` (changed since: cola/train)"
    shutil.rmtree(".dvc/cache")
    assert refusal() is None


def test_where_dvc_cannot_tell_its_reason_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^dvc status --json: you are not inside of a DVC repository[^\n]*$"):
        workspace.check_one_run()
