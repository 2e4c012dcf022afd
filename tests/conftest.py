"""What several test files need: the real corpus and an encoder, where they can be had."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import settings

from cola.core.errors import UserError
from cola.data import download

# The same examples on every run, however busy the machine.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def mirror():
    """The archive of the real CoLA."""
    archive = Path(os.environ.get("COLA_MIRROR") or "nowhere", "cola_public_1.1.zip")
    if not archive.is_file():
        pytest.skip("the real corpus is needed: set COLA_MIRROR to a folder that has cola_public_1.1.zip")
    return archive


@pytest.fixture(scope="session")
def raw(mirror, tmp_path_factory):
    """A folder with the three TSVs of the real CoLA."""
    folder = tmp_path_factory.mktemp("raw")
    with zipfile.ZipFile(mirror) as archive:
        for name in ("in_domain_train.tsv", "in_domain_dev.tsv", "out_of_domain_dev.tsv"):
            (folder / name).write_bytes(archive.read(f"cola_public/raw/{name}"))
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """The small encoder of the demo, with the vocabulary that bert-base-uncased has too."""
    folder = tmp_path_factory.mktemp("encoder")
    try:
        download.encoder("sentence-transformers/all-MiniLM-L6-v2", None, folder)
    except UserError as error:
        pytest.skip(f"an encoder is needed: {error}")
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Of the tests' own virtual environment, with a home that knows no git identity and no cache of anything."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "OMP_", "LANG", "LC_"))}
    return kept | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture(scope="session")
def run(environment):
    """Run a command in a project; returns what it prints. It must end well, or, with `fails`, must not."""

    def run(project, *command, fails=False, **variables):
        answer = subprocess.run(
            command, cwd=project, env=environment | variables, capture_output=True, text=True, check=False
        )
        assert (answer.returncode != 0) == fails, answer.stdout + answer.stderr
        return answer.stdout + answer.stderr

    return run
