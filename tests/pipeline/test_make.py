"""What make says where something that it needs is not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT


@pytest.fixture
def folder(tmp_path):
    """The Makefile, with an environment of tools that do nothing, and git's folder."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    (tmp_path / ".git").mkdir()
    for tool in ("dvc", "mlflow", "pytest"):
        path = tmp_path / ".venv/bin" / tool
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    shutil.copy(ROOT / "requirements.lock", tmp_path / ".venv/ready")
    return tmp_path


def make(folder, *arguments):
    answer = subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return answer.returncode, answer.stderr.splitlines()[:1]


def test_with_all_in_place_the_target_runs(folder):
    assert make(folder, "repro") == (0, [])


def test_a_lock_that_was_only_written_anew_installs_nothing(folder):
    (folder / "requirements.lock").touch()
    os.utime(folder / ".venv/ready", times=(0, 0))
    assert make(folder, "PYTHON=false", "repro") == (0, [])
    assert (folder / ".venv/ready").stat().st_mtime > 0


@pytest.mark.parametrize("tool", ["dvc", "mlflow", "pytest"])
@pytest.mark.parametrize("fault", ["gone", "its Python gone"])
def test_a_tool_that_is_not_there_is_one_line(folder, tool, fault):
    path = folder / ".venv/bin" / tool
    path.unlink()
    if fault != "gone":
        path.write_text("#!/nowhere/python\n")
        path.chmod(0o755)
    line = f"error: .venv/bin/{tool} is missing or broken: remove .venv, and make sets it up anew"
    assert make(folder, "test") == (2, [line])


@pytest.mark.parametrize("target", ["demo", "repro", "track", "verify"])
def test_no_git_repository_is_one_line(folder, target):
    (folder / ".git").rmdir()
    line = "error: this folder is no git repository, which DVC needs: get the project with git clone"
    assert make(folder, target) == (2, [line])


def test_without_a_database_of_vulnerabilities_nothing_is_called_safe(folder):
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    tools = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    answer = subprocess.run(
        ["make", "audit"], cwd=folder, env=os.environ | nowhere | tools, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: not checked: ")
    assert "Traceback" not in answer.stderr
    assert "none" not in answer.stdout


def test_a_python_that_is_too_old_is_one_line(folder):
    old = folder / "old"
    old.write_text("#!/bin/sh\n# A Python 3.8, of which the Makefile asks its version\n" + OLD)
    old.chmod(0o755)
    (folder / ".venv/ready").unlink()
    answer = subprocess.run(["make", "repro", f"PYTHON={old}"], cwd=folder, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[0] == "error: Python 3.11 or newer is needed; make PYTHON=..."


OLD = """shift
exec python3 -c "import sys; sys.version_info = (3, 8, 0); $1"
"""
