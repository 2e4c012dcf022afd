"""A real DVC tells results of two runs apart. They are refused until `dvc repro`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from cola.core import files, paths
from cola.core.errors import UserError
from cola.report import console, mlflow_runs, page, workspace

PIPELINE = """
stages:
  train: {cmd: "cat params.yaml cola/train > model", deps: [cola/train], params: [seed], outs: [model]}
  evaluate: {cmd: "cp model test", deps: [model], outs: [test]}
"""


def reproduce(*stages):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [sys.executable, "-m", "dvc", "repro", "--quiet", *stages]
    subprocess.run(command, check=True, env=os.environ | {"PATH": path})


def check_refused(path, with_code=False):
    """Check that files of two runs are refused because of a path, until `dvc repro`."""
    with pytest.raises(
        UserError, match=rf"^the files are not those of one run: run `dvc repro` \(changed or missing: {path}\)$"
    ):
        workspace.check_one_run(with_code)
    reproduce()
    workspace.check_one_run(with_code=True)


@pytest.mark.slow
def test_files_of_two_runs_are_refused_until_dvc_repro(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    Path("cola").mkdir()
    for name, text in {"dvc.yaml": PIPELINE, "params.yaml": "seed: 1\n", "cola/train": "code\n"}.items():
        Path(name).write_text(text)
    with pytest.raises(UserError, match=r"^the workspace has no trained model: run `make repro`, or"):
        workspace.check_one_run()
    with files.atomic_folder(paths.FINETUNED) as folder:
        (folder / "config.json").touch()
    with pytest.raises(UserError, match=r"\(changed or missing: cola/train, model, params.yaml and 1 more\)$"):
        workspace.check_one_run(with_code=True)
    reproduce()
    workspace.check_one_run(with_code=True)
    (paths.FINETUNED / "config.json").unlink()
    (paths.FINETUNED / "config.json").symlink_to("/elsewhere")
    with pytest.raises(
        UserError, match=r"^models/finetuned/config.json is a link to a file that is not there: `dvc ch"
    ):
        workspace.check_one_run()
    (paths.FINETUNED / "config.json").unlink()
    (paths.FINETUNED / "config.json").touch()
    Path("params.yaml").write_text("seed: 2\n")
    check_refused("params.yaml")
    Path("params.yaml").write_text("seed: 3\n")
    reproduce("train")
    check_refused("model")
    Path("test").write_text("edited")
    check_refused("test")
    Path("dvc.yaml").write_text(PIPELINE.replace("outs: [model]", "outs: [model], frozen: true"))
    with pytest.raises(UserError, match=r"^DVC does not see the changes of a frozen stage: run `dvc unfreeze train`$"):
        workspace.check_one_run()
    subprocess.run([sys.executable, "-m", "dvc", "unfreeze", "train"], check=True)
    workspace.check_one_run()
    Path("cola/train").write_text("new code\n")
    workspace.check_one_run()
    check_refused("cola/train", with_code=True)
    shutil.rmtree(".dvc/cache")
    workspace.check_one_run()


@pytest.mark.parametrize("main", [console.main, page.main, mlflow_runs.track])
def test_a_result_of_two_runs_is_neither_shown_nor_recorded(main, result, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["command"])
    Path("dvc.yaml").write_text("stages: {evaluate: {cmd: 'true', deps: [params.yaml]}}")
    with pytest.raises(UserError, match=r"^the files are not those of one run"):
        main()


@pytest.mark.parametrize("main", [console.main, page.main])
def test_a_result_without_a_file_is_not_shown(main, result, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command"])
    paths.HISTORY.unlink()
    with pytest.raises(UserError) as error:
        main()
    assert re.fullmatch("metrics/history.csv is .*`dvc repro`.*", str(error.value))
    assert capsys.readouterr().out == ""
    assert not paths.REPORT.exists()
