"""stages/run.sh runs a stage from any shell in the right Python, or says in one line what to do."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run_to_end
from project import ROOT

BARE = {"PATH": "/usr/bin:/bin"}
SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "tcsh") if shutil.which(shell)]
PROBE = (
    "import os, sys\n"
    "assert not sys.flags.optimize and not sys.dont_write_bytecode\n"
    "print(sys.argv[1:], sys.prefix, os.environ['DVC_PID'] == str(os.getppid()))\n"
)
NEEDED = "error: a stage needs .venv, or Python 3.11 or newer as python3 on PATH: run `make .venv`, and this again\n"


@pytest.fixture
def project(tmp_path):
    """A project with a stage that prints its arguments, its environment, and whether it knows its parent."""
    (tmp_path / "stages").mkdir()
    shutil.copy(ROOT / "stages/run.sh", tmp_path / "stages")
    (tmp_path / "stages/probe.py").write_text(PROBE)
    return tmp_path


def run(project, shell="sh", **environment):
    """Run the stage in this shell as DVC does. Returns its output and errors."""
    command = [shutil.which(shell), "-c", "exec sh stages/run.sh probe a b"]
    answer = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    return answer.stdout, answer.stderr


def use_environment(project):
    (project / ".venv").symlink_to(sys.prefix)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_stage_runs_in_any_shell_as_a_child_of_dvc(project, shell):
    use_environment(project)
    assert run(project, shell, **BARE) == (f"['a', 'b'] {project / '.venv'} True\n", "")


def test_a_stage_finds_its_modules_and_keeps_their_bytecode_whatever_python_is_told(project):
    use_environment(project)
    told = {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONOPTIMIZE": "2"}
    assert run(project, **BARE, **told) == (f"['a', 'b'] {project / '.venv'} True\n", "")


def test_in_a_copy_of_the_project_the_environment_is_the_projects(project, tmp_path_factory):
    use_environment(project)
    copy = shutil.copytree(project / "stages", tmp_path_factory.mktemp("copy") / "stages").parent
    assert run(copy, **BARE, DVC_ROOT=str(project)) == (f"['a', 'b'] {project / '.venv'} True\n", "")


def test_without_an_environment_the_stage_runs_in_paths_python(project):
    assert run(project, PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")[0] == f"['a', 'b'] {sys.prefix} True\n"


@pytest.mark.parametrize("old", ["exit 1", None])
def test_without_a_python_one_line_says_what_to_do(project, old, tmp_path_factory):
    path = tmp_path_factory.mktemp("bin")
    (path / "sh").symlink_to(shutil.which("sh"))
    if old:
        (path / "python3").write_text(f"#!/bin/sh\n{old}\n")
        (path / "python3").chmod(0o755)
    printed, errors = run(project, PATH=str(path))
    assert printed == ""
    assert errors.endswith(NEEDED)
    use_environment(project)  # as `make .venv` would
    assert run(project, PATH=str(path))[1] == ""


def test_a_package_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    answer = run_to_end([sys.executable, "-S", "-m", "stages.tokenize"])
    assert answer.returncode == 1
    remedy = "run `make .venv && source .venv/bin/activate`, and this again"
    assert answer.stderr == f"error: {sys.executable} has no package yaml: {remedy}\n"


def test_damaged_bytecode_is_one_line_whose_remedy_helps(tmp_path):
    (tmp_path / "stages").mkdir()
    for name in ("__init__", "probe"):
        (tmp_path / f"stages/{name}.py").touch()
    command = [sys.executable, "-c", "from cola.core import processes; processes.start_stage(); import stages.probe"]
    assert run_to_end(command, tmp_path, PYTHONDONTWRITEBYTECODE="").stderr == ""
    (bytecode,) = tmp_path.rglob("probe.*.pyc")
    bytecode.write_bytes(bytecode.read_bytes()[:-9])  # as on a full disk
    message = r"^error: Python's bytecode is damaged \(marshal data too short\): run `(.*)`, and this again\n$"
    (remedy,) = re.fullmatch(message, run_to_end(command, tmp_path).stderr).groups()
    run_to_end(["bash", "-c", remedy], tmp_path)
    assert run_to_end(command, tmp_path).stderr == ""


def test_control_c_during_the_imports_is_one_line():
    code = "from cola.core import processes; processes.start_stage(); raise KeyboardInterrupt"
    answer = run_to_end([sys.executable, "-c", code])
    assert answer.returncode not in (0, 1)
    assert answer.stderr == "\ninterrupted\n"
