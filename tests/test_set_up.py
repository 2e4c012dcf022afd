"""set_up.py makes .venv by uv or by pip, with pip's settings, and anew where it is not what it should be.

It is run as it is, on a lock of two small packages that lie in a folder.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from project import ROOT

import set_up

UV = Path(sys.executable).with_name("uv")
INTERPRETER = Path(sys.executable).resolve()
LIBRARY = Path(os.__file__).parent  # with ensurepip
DONE = (0, ["setting up .venv"], "")


def write_wheel(folder, name, **scripts):
    """A wheel of version 1 that puts these scripts into .venv/bin."""
    information = f"{name}-1.dist-info"
    files = {f"{name}-1.data/scripts/{script}": text for script, text in scripts.items()}
    files[f"{information}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"
    files[f"{information}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{information}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{information}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            member = zipfile.ZipInfo(path)
            member.external_attr = 0o100755 << 16
            wheel.writestr(member, text)


@pytest.fixture
def project(tmp_path):
    """A project that needs a package `tools`, with its wheel, and one of uv, in the folder wheels."""
    folder = tmp_path / "project"
    (folder / "wheels").mkdir(parents=True)
    write_wheel(folder / "wheels", "tools", dvc="#!/bin/sh\n", mlflow="#!/bin/sh\n", pytest="#!/bin/sh\n")
    write_wheel(folder / "wheels", "uv", uv=f'#!/bin/sh\nexec {UV} "$@"\n')
    shutil.copy(ROOT / "set_up.py", folder)
    (folder / "requirements.lock").write_text("tools==1\nuv==1\n")
    return folder


def start(project, uv=UV, python=INTERPRETER, path=()):
    """Run set_up.py with an index that only pip's settings name; with uv on PATH, unless it is None."""
    (project / "bin").mkdir(exist_ok=True)
    (project / "bin/uv").unlink(missing_ok=True)
    if uv:
        (project / "bin/uv").symlink_to(uv)
    settings = project / "pip.conf"
    settings.write_text(f"[global]\nfind-links = {project / 'wheels'}\n[install]\nno-index = true\n")
    environment = {"PATH": str(project / "bin"), "PIP_CONFIG_FILE": str(settings), "HOME": str(project)}
    command = [python, *path, "set_up.py"]
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(project, **options):
    """The status, the lines and the errors of set_up.py."""
    process = start(project, **options)
    printed, errors = process.communicate()
    return process.returncode, printed.splitlines(), errors


def has_all(project):
    """Whether each package is there, and a second run has nothing to do."""
    tools = {path.name for path in (project / ".venv/bin").iterdir()}
    return {"dvc", "mlflow", "pytest", "uv"} <= tools and run(project) == (0, [], "")


def test_uv_installs_from_the_index_that_pip_is_configured_to_use(project):
    assert run(project) == DONE
    assert has_all(project)


def test_of_two_at_once_the_second_waits_for_the_first(project):
    processes = [start(project), start(project)]
    assert sorted(process.communicate()[0] for process in processes) == ["", "setting up .venv\n"]


@pytest.mark.slow
def test_without_uv_on_the_path_pip_puts_it_into_the_environment(project):
    assert run(project, uv=None) == DONE
    assert has_all(project)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["error: no such index", "", "error: unexpected argument\n\n  --torch-backend"])
def test_where_uv_fails_pip_installs(project, words):
    (project / "failing").write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 2\n")
    (project / "failing").chmod(0o755)
    lines = ["setting up .venv", " ".join(["uv fails:", *words.split()]), "pip installs the packages, in minutes"]
    assert run(project, uv=project / "failing") == (0, lines, "")
    assert has_all(project)


@pytest.mark.slow
def test_without_the_packages_both_say_why_and_later_it_is_set_up_anew(project):
    (project / "wheels").rename(project / "away")
    (project / "wheels").mkdir()
    status, lines, errors = run(project)
    assert (status, lines[0], lines[2]) == (1, "setting up .venv", "pip installs the packages, in minutes")
    assert "no version of uv==1" in lines[1]
    assert errors.splitlines()[-1] == "error: .venv is not set up, for the reason above; try again"
    (project / "wheels").rmdir()
    (project / "away").rename(project / "wheels")
    assert run(project) == DONE
    assert has_all(project)


@pytest.fixture
def python_without_ensurepip(tmp_path):
    """A Python that has no ensurepip, as Debian's has none without python3-venv."""
    for folder in (LIBRARY.parent, LIBRARY):
        copy = tmp_path / "lib" if folder == LIBRARY.parent else tmp_path / "lib" / LIBRARY.name
        copy.mkdir()
        for path in folder.iterdir():
            if path != LIBRARY and path.name not in ("ensurepip", "site-packages"):
                (copy / path.name).symlink_to(path)
    (tmp_path / "bin").mkdir()
    return Path(shutil.copy(INTERPRETER, tmp_path / "bin/python3"))


def test_without_ensurepip_it_takes_uv(project, python_without_ensurepip):
    line = (
        f"error: {python_without_ensurepip} cannot make an environment with pip (Debian: apt install python3-venv); "
        "install that, or uv (https://docs.astral.sh/uv), and try again\n"
    )
    assert run(project, uv=None, python=python_without_ensurepip) == (1, ["setting up .venv"], line)
    assert not (project / ".venv/ready").exists()
    assert run(project, python=python_without_ensurepip) == DONE


def spoil(project, damage):
    """Do this to a project that is set up; returns it."""
    ready = project / ".venv/ready"
    match damage:
        case "interrupted":
            ready.unlink()
        case "a tool removed":
            (project / ".venv/bin/mlflow").unlink()
        case "its Python gone":
            for path in (project / ".venv/bin").glob("python*"):
                path.unlink()
                path.symlink_to("/nowhere/python3")
            ready.write_text(ready.read_text().replace(str(INTERPRETER), "/nowhere/python3"))
        case "made with another Python":
            ready.write_text(ready.read_text().replace(str(INTERPRETER), "/usr/bin/python3.99"))
        case "moved":
            return project.rename(project.with_name("moved"))
    return project


@pytest.mark.parametrize(
    "damage", ["interrupted", "a tool removed", "its Python gone", "made with another Python", "moved"]
)
def test_what_is_not_as_it_was_made_is_made_anew(project, damage):
    run(project)
    (project / ".venv/extra").touch()
    project = spoil(project, damage)
    assert run(project) == DONE
    assert not (project / ".venv/extra").exists()
    assert has_all(project)


def test_after_a_change_of_the_lock_what_the_user_has_installed_stays(project):
    run(project)
    (project / ".venv/extra").touch()
    write_wheel(project / "wheels", "another", another="#!/bin/sh\n")
    with (project / "requirements.lock").open("a") as lock:
        lock.write("another==1\n")
    assert run(project) == (0, ["updating .venv"], "")
    assert (project / ".venv/bin/another").exists()
    assert (project / ".venv/extra").exists()
    assert has_all(project)


def test_a_link_to_another_environment_stays_as_it_is(project, tmp_path):
    (tmp_path / "shared").mkdir()
    (project / ".venv").symlink_to(tmp_path / "shared")
    line = f"error: .venv is a link to {tmp_path}/shared, which has other packages: remove .venv, and try again\n"
    assert run(project) == (1, [], line)
    (project / ".venv").unlink()
    assert run(project) == DONE
    assert not any((tmp_path / "shared").iterdir())


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 15)])
def test_a_python_that_is_not_supported_is_one_line(project, version):
    code = f"import runpy, sys; sys.version_info = {version}; runpy.run_path('set_up.py', run_name='__main__')"
    status, lines, errors = run(project, path=["-c", code])
    assert (status, lines) == (1, [])
    assert errors == (
        f"error: {INTERPRETER} is Python {version[0]}.{version[1]}, and 3.11 to 3.14 are supported: "
        "name another one, as in make PYTHON=python3.12\n"
    )


def test_pips_settings_reach_uv(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = http://first/simple\nextra-index-url =\n  http://second/simple\n  http://third\n"
        "find_links = a b\ncert = ca.pem\nproxy = http://proxy:8\ntrusted-host = first second\n"
        "[install]\nconstraint = c.txt\ncert = install.pem\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    (tmp_path / "user/pip").mkdir(parents=True)
    (tmp_path / "user/pip/pip.conf").write_text("[global]\nindex-url = http://user\nclient-cert = user.pem\n")
    monkeypatch.setenv("PIP_INDEX_URL", "http://fourth/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.chdir(tmp_path)
    assert set_up.read_settings() == {
        "UV_DEFAULT_INDEX": "http://fourth/simple",
        "UV_INDEX": "http://second/simple http://third",
        "UV_FIND_LINKS": "a,b",
        "UV_NO_INDEX": "1",
        "UV_CONSTRAINT": "c.txt",
        "UV_INSECURE_HOST": "first second",
        "SSL_CERT_FILE": "install.pem",
        "SSL_CLIENT_CERT": "user.pem",
        "ALL_PROXY": "http://proxy:8",
    }
