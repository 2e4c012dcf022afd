"""set_up.py makes .venv with uv or pip and with pip's settings, and repairs it."""

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
            member.external_attr = 0o100755 << 16  # pip keeps the wheel's permissions
            wheel.writestr(member, text)


@pytest.fixture
def wheels(tmp_path):
    """A folder with two small packages, tools and uv. Only pip's settings name it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, "tools", dvc="#!/bin/sh\n", mlflow="#!/bin/sh\n", pytest="#!/bin/sh\n")
    write_wheel(folder, "uv", uv=f'#!/bin/sh\nexec {UV} "$@"\n')
    return folder


@pytest.fixture
def project(tmp_path, wheels):
    """A project that needs these packages, in a folder with a space in its name."""
    folder = tmp_path / "my project"
    folder.mkdir()
    shutil.copy(ROOT / "set_up.py", folder)
    (folder / "requirements.lock").write_text("tools==1\nuv==1\n")
    (folder / "pip.conf").write_text(f"[global]\nfind-links = {wheels}\n[install]\nno-index = true\nuser = true\n")
    return folder


def start(project, uv=UV, command=(INTERPRETER, "set_up.py")):
    """Start set_up.py with this uv on PATH, or without one."""
    path = project / "bin"
    path.mkdir(exist_ok=True)
    (path / "uv").unlink(missing_ok=True)
    if uv:
        (path / "uv").symlink_to(uv)
    environment = {"PATH": str(path), "PIP_CONFIG_FILE": str(project / "pip.conf"), "HOME": str(project)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=project, env=environment, **pipes)


def run(project, **options):
    """Run set_up.py. Returns its status, the lines that it prints, and its errors."""
    process = start(project, **options)
    printed, errors = process.communicate()
    return process.returncode, printed.splitlines(), errors


def has_all(project):
    """Whether .venv has each package, and a second run has nothing to do."""
    tools = {path.name for path in (project / ".venv/bin").iterdir()}
    return {"dvc", "mlflow", "pytest", "uv"} <= tools and run(project) == (0, [], "")


def test_a_second_run_waits_until_the_first_has_installed(project):
    processes = [start(project), start(project)]
    assert sorted(process.communicate()[0] for process in processes) == ["", "setting up .venv\n"]
    assert has_all(project)


@pytest.mark.slow
def test_without_uv_on_the_path_pip_puts_it_into_the_environment(project):
    assert run(project, uv=None) == DONE
    assert has_all(project)


@pytest.mark.slow
def test_where_uv_fails_pip_installs(project):
    failing = project / "failing"
    failing.write_text("#!/bin/sh\necho 'error: unexpected\n\n  argument' >&2\nexit 2\n")
    failing.chmod(0o755)
    lines = ["setting up .venv", "uv fails: error: unexpected argument", "pip installs the packages, in minutes"]
    assert run(project, uv=failing) == (0, lines, "")
    assert has_all(project)


@pytest.mark.slow
def test_without_the_packages_uv_and_pip_say_why_and_a_later_run_succeeds(project, wheels):
    away = wheels.rename(wheels.with_name("away"))
    wheels.mkdir()
    status, lines, errors = run(project)
    assert (status, lines[0], lines[2]) == (1, "setting up .venv", "pip installs the packages, in minutes")
    assert "no version of uv==1" in lines[1]
    assert errors.splitlines()[-1] == "error: .venv is not set up, for the reason above; try again"
    wheels.rmdir()
    away.rename(wheels)
    assert run(project) == DONE
    assert has_all(project)


def test_a_python_without_ensurepip_needs_uv(project, tmp_path):
    for folder in (tmp_path / "lib", tmp_path / "lib" / LIBRARY.name):  # like Debian's Python without python3-venv
        folder.mkdir()
        for path in (LIBRARY.parent / folder.relative_to(tmp_path / "lib")).iterdir():
            if path != LIBRARY and path.name not in ("ensurepip", "site-packages"):
                (folder / path.name).symlink_to(path)
    (tmp_path / "bin").mkdir()
    python = shutil.copy(INTERPRETER, tmp_path / "bin/python3")
    line = (
        f"error: {python} has no ensurepip, so that .venv would have no pip: install it "
        "(Debian: apt install python3-venv), or uv (https://docs.astral.sh/uv), and try again\n"
    )
    assert run(project, uv=None, command=(python, "set_up.py")) == (1, ["setting up .venv"], line)
    assert run(project, command=(python, "set_up.py")) == DONE


def test_a_python_without_its_own_modules_is_refused(project):
    code = "import sys; sys.modules |= {'_sqlite3': None, '_lzma': None}\n"
    code += "import runpy; runpy.run_path('set_up.py', {}, '__main__')"
    line = (
        f"error: {INTERPRETER} was built without lzma, sqlite3: install their libraries and build it again, "
        "or name another Python, as in make PYTHON=/usr/bin/python3\n"
    )
    assert run(project, command=(INTERPRETER, "-c", code)) == (1, [], line)
    assert run(project) == DONE


@pytest.mark.parametrize("damage", ["interrupted", "a tool removed", "its Python gone", "another Python", "moved"])
def test_a_damaged_environment_is_made_anew(project, damage):
    run(project)
    environment, ready = project / ".venv", project / ".venv/ready"
    (environment / "extra").touch()
    if damage == "interrupted":
        ready.unlink()
    elif damage == "a tool removed":
        (environment / "bin/mlflow").unlink()
    elif damage == "moved":
        project = project.rename(project.with_name("moved"))
    else:
        ready.write_text(ready.read_text().replace(str(INTERPRETER), "/nowhere/python3.99"))
        if damage == "its Python gone":
            (environment / "bin/python").unlink()
    assert run(project) == DONE
    assert not (project / ".venv/extra").exists()
    assert has_all(project)


def test_after_a_change_of_the_lock_the_users_packages_stay(project, wheels):
    run(project)
    (project / ".venv/extra").touch()
    write_wheel(wheels, "another", another="#!/bin/sh\n")
    with (project / "requirements.lock").open("a") as lock:
        lock.write("another==1\n")
    assert run(project) == (0, ["updating .venv"], "")
    assert (project / ".venv/bin/another").exists()
    assert (project / ".venv/extra").exists()
    assert has_all(project)


def test_a_link_to_another_environment_is_refused(project, tmp_path):
    (tmp_path / "shared").mkdir()
    (project / ".venv").symlink_to(tmp_path / "shared")
    line = f"error: .venv is a link to {tmp_path}/shared, which has other packages: remove .venv, and try again\n"
    assert run(project) == (1, [], line)
    (project / ".venv").unlink()
    assert run(project) == DONE
    assert not any((tmp_path / "shared").iterdir())


def test_pips_settings_reach_uv(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip/pip.conf").write_text("[global]\nindex-url = http://user\nclient-cert = user.pem\n")
    (tmp_path / "named.conf").write_text(
        "[global]\nindex-url = http://first/simple\nextra-index-url =\n  http://second/simple\n  http://third\n"
        "find_links = a b\ncert = ca.pem\nproxy = http://proxy:8\ntrusted-host = first second\n"
        "[install]\nconstraint = c.txt\ncert = install.pem\n"
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "named.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://fourth/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
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
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)  # pip then reads no file
    assert set_up.read_settings() == {"UV_DEFAULT_INDEX": "http://fourth/simple", "UV_NO_INDEX": "1"}
