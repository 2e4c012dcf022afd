"""Fixtures of several test files: the real corpus, encoders, commands in a project, one whole run."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import project as projects
import pytest
from filelock import FileLock

from cola.core.errors import UserError

with suppress(ImportError):  # a machine that runs the tests marked gpu may lack it
    from hypothesis import settings

    # The same examples on every run, however busy the machine.
    settings.register_profile("repeatable", derandomize=True, deadline=None)
    settings.load_profile("repeatable")


def pytest_configure():
    """Set what a shell may have changed for the processes that tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and passes that on
    os.environ.pop("FORCE_COLOR", None)  # rich would print colours into pipes


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """A CPU, or CUDA (pytest -m gpu), with algorithms that repeat their bytes."""
    import torch  # takes seconds: only here

    from cola.model.device import make_deterministic

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    before = torch.are_deterministic_algorithms_enabled()
    make_deterministic()
    yield torch.device(request.param)
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def mirror():
    """The archive of the real CoLA."""
    archive = Path(os.environ.get("COLA_MIRROR") or "nowhere", "cola_public_1.1.zip")
    if not archive.is_file():
        pytest.skip("the real corpus is needed: set COLA_MIRROR to a folder that has cola_public_1.1.zip")
    return archive


@pytest.fixture(scope="session")
def raw(mirror, tmp_path_factory):
    """A folder with the real CoLA, train.csv and test.csv, as fetch writes it to data/raw."""
    folder = tmp_path_factory.mktemp("raw")
    from cola.fetch import download

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLA_MIRROR", str(mirror.parent))
        download.fetch_corpus("cola", folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(once):
    """The demo's small encoder, which has bert-base-uncased's vocabulary."""
    from cola.fetch import download  # needs packages that a machine with a GPU may lack

    try:
        return once("MiniLM", lambda folder: download.fetch_encoder(projects.MINILM, None, folder))
    except UserError as error:
        pytest.skip(f"an encoder is needed: {error}")


@pytest.fixture(scope="session")
def empty_database(once):
    """A database with MLflow's empty tables, which take seconds to make."""
    from mlflow.tracking import MlflowClient  # takes seconds, too: only here

    return once("database", lambda folder: MlflowClient(f"sqlite:///{folder}/mlflow.db")) / "mlflow.db"


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The variables of a user of this virtual environment, with an empty home: no git identity and no cache."""
    home = tmp_path_factory.mktemp("home")
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "OMP_", "LANG", "LC_"))}
    passed_on["PYTHON"] = "true"  # `make` sets up nothing: the tests use this environment
    return passed_on | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture(scope="session")
def run(environment):
    """Run a command in a project; return its output. It must end well, or, with `fails`, must fail."""

    def run(project, *command, fails=False, **variables):
        answer = subprocess.run(
            command, cwd=project, env=environment | variables, capture_output=True, text=True, check=False
        )
        assert (answer.returncode != 0) == fails, answer.stdout + answer.stderr
        return answer.stdout + answer.stderr

    return run


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once("name", fill) returns a folder that `fill` has filled: the first process fills it, later ones wait."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name, fill):
        folder = base / name
        with FileLock(base / f"{name}.lock"):
            if not (base / f"{name}.ready").exists():
                shutil.rmtree(folder, ignore_errors=True)  # another process failed to fill it
                folder.mkdir()
                fill(folder)
                (base / f"{name}.ready").touch()
        return folder

    return once


@pytest.fixture(scope="session")
def tiny_encoder(once):
    """A folder with a tiny encoder that knows the words of the generated corpus."""
    return once("tiny-bert", projects.tiny_encoder)


@pytest.fixture(scope="session")
def whole_run(once, tiny_encoder, empty_database, run):
    """A project whose stages have run, with the result saved as the experiment `demo`. Tests share it and only read it.

    The stages run in this process, which saves their imports; in a slow test DVC runs them.
    """

    def fill(folder):
        project = projects.copy_project(folder)
        projects.change_settings(
            project, fetch__corpus="minimal_pairs", fetch__encoder=str(tiny_encoder), train__max_steps=20
        )
        shutil.copy(empty_database, project)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(project)
            for stage in projects.STAGES:
                projects.run_stage(stage)
        run(project, "dvc", "commit", "--force")
        run(project, "dvc", "exp", "save", "--name", "demo", "--include-untracked", "metrics")

    return once("whole-run", fill)


@pytest.fixture
def applied(whole_run, tmp_path):
    """A copy of whole_run that a test may change."""
    return Path(shutil.copytree(whole_run, tmp_path / "project", symlinks=True))
