"""make passes values to the commands as typed, and names in one line what it lacks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# Texts that make, a shell or both would change.
HARD = [
    "It costs $5.99 (incl. $$ fees).",
    "$(shell touch made)",
    "100% of $it",
    "unterminated $(shell id",
    "`id` # \\ ~",
]
HARD += ['It\'s "here".', "two\nlines", "~/my data (1)", "corpora/réclamations", "a,b=c"]
TYPED = "PYTHON PORT N SHAPE ENCODERS ENCODER SETTINGS SWEEP TEXT SCHEDULER".split()  # the variables that make exports


@pytest.fixture
def folder(tmp_path):
    """The Makefile in a git repository, with tools in .venv that print their arguments."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    for tool in ("python", "dvc"):
        path = tmp_path / ".venv/bin" / tool
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('#!/bin/sh\nprintf \'<%s>\' "$@"\n[ -z "$SHOW" ] || printenv "$SHOW"\n')
        path.chmod(0o755)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/plots.html").touch()
    return tmp_path


def make(folder, *arguments, **variables):
    """Run make without its set-up. Returns its status, its output and its errors."""
    inherited = {name: value for name, value in os.environ.items() if name not in TYPED}  # of `make test`
    environment = {**inherited, "PYTHON": "true", **variables}
    command = ["make", "--silent", *arguments]
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return answer.returncode, answer.stdout, answer.stderr


@pytest.mark.parametrize("text", HARD)
def test_a_text_reaches_the_command_as_it_was_typed(folder, text):
    assert make(folder, "predict", f"TEXT={text}") == (0, f"<-m><cola.predict><{text}>", "")
    assert make(folder, "predict", TEXT=text) == (0, f"<-m><cola.predict><{text}>", "")
    assert f"<fetch.encoder={text}>" in make(folder, "demo", f"ENCODER={text}")[1]
    assert f"<sweep><{text}>" in make(folder, "sweep", f"SWEEP={text}")[1]
    assert not (folder / "made").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("data-curve", f"<fetch.corpus=minimal_pairs fetch.encoder={MINILM} fetch.encoder_revision=null train."),
        ("sweep", "<train.batch_size=16,32 train.learning_rate=5.0e-5,3.0e-5,2.0e-5 train.epochs=2,3,4>"),
        ("reference", f"<sentence-transformers/all-mpnet-base-v2 {MINILM}>"),
        ("seeds", "<10>"),
    ],
)
def test_a_target_has_default_settings(folder, target, words):
    assert words in make(folder, target)[1]


def test_a_clone_has_the_committed_line_ends_whatever_git_is_told(tmp_path):
    command = ["git", "-c", "core.autocrlf=true", "checkout-index", f"--prefix={tmp_path}/", "Makefile", "params.yaml"]
    subprocess.run(command, cwd=ROOT, check=True)
    for name in ("Makefile", "params.yaml"):
        assert b"\r" not in (tmp_path / name).read_bytes()


def test_stages_run_in_bash_whatever_the_users_shell_is(folder):
    assert make(folder, "repro", SHELL="/usr/sbin/nologin", SHOW="SHELL") == (0, "<repro>bash\n", "")


def test_repro_says_that_settings_are_not_the_committed_ones(folder):
    (folder / "params.yaml").write_text("seed: 42\n")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["add", "params.yaml"], [*identity, "commit", "--quiet", "--message", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    assert make(folder, "repro") == (0, "<repro>", "")
    (folder / "params.yaml").write_text("seed: 43\n")  # as after dvc exp apply
    note = "note: params.yaml is not as committed: "
    assert make(folder, "repro")[1].startswith(f"{note}git diff params.yaml shows the changes, and git checkout params")
    subprocess.run(["git", "checkout", "--quiet", "params.yaml"], cwd=folder, check=True)
    assert make(folder, "repro") == (0, "<repro>", "")


@pytest.mark.parametrize(
    ("variables", "name", "value"),
    [
        ({"USER": "", "LOGNAME": ""}, "USER", f"user-{os.getuid()}"),
        ({"USER": "you", "LOGNAME": "me"}, "USER", "you"),
        ({"HOME": "/nowhere"}, "HOME", "{folder}/.dvc/tmp/home"),
        ({"HOME": "/tmp"}, "HOME", "/tmp"),  # noqa: S108
    ],
)
def test_a_user_has_a_name_and_a_home(folder, variables, name, value):
    assert make(folder, "repro", **variables, SHOW=name) == (0, f"<repro>{value.format(folder=folder)}\n", "")


@pytest.mark.parametrize("target", ["demo", "repro", "track", "verify"])
def test_without_a_git_repository_one_line_says_what_to_do(folder, target):
    shutil.rmtree(folder / ".git")
    line = (
        "error: this folder is in no git repository, which DVC needs: get the project with git clone, "
        "or run git init && git add --all && git commit -m start"
    )
    status, printed, errors = make(folder, target, GIT_CEILING_DIRECTORIES=str(folder.parent))
    assert (status, printed, errors.splitlines()[0]) == (2, "", line)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    assert make(folder, target)[0] == 0


def test_the_project_may_be_a_folder_of_a_larger_repository(folder):
    inner = folder / "inner"
    inner.mkdir()
    for name in ("Makefile", ".venv", ".dvc"):
        shutil.move(folder / name, inner)
    assert make(inner, "repro") == (0, "<repro>", "")


@pytest.mark.parametrize("version", [None, (2, 7), (3, 10), (3, 15)])
def test_a_python_that_is_missing_or_not_supported_is_one_line(folder, version):
    python = folder / "python"
    if version:
        code = f"import sys; sys.version_info = {version}; $2"
        python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "{code}"\n')
        python.chmod(0o755)
    status, _, errors = make(folder, "repro", f"PYTHON={python}")
    assert status == 2
    assert errors.splitlines()[0] == (
        f"error: {python} is not Python 3.11 to 3.14: name one that is, as in make PYTHON=python3.12"
    )
    (folder / "set_up.py").touch()
    assert make(folder, "repro", f"PYTHON={sys.executable}") == (0, "<repro>", "")


def test_without_a_network_the_audit_fails(folder):
    shutil.copy(ROOT / "requirements.lock", folder)
    (folder / ".venv/bin/python").unlink()
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    status, printed, errors = make(
        folder, "audit", **nowhere, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    assert (status, printed) == (2, "")
    assert errors.startswith("error: not checked: ")
    assert "Traceback" not in errors
