"""Sets up .venv with the packages of requirements.lock, unless it has them: `make` runs this with PYTHON.

uv installs in seconds: from PATH, or from pip. Where uv fails, pip itself installs, in minutes.
`python set_up.py lock` chooses the newest packages that pyproject.toml allows, and writes requirements.lock.
"""

import configparser
import contextlib
import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"
LOCK = Path("requirements.lock")
READY = VENV / "ready"  # written last: the path of .venv, its interpreter and its lock
TOOLS = ("dvc", "mlflow", "pytest")
# Python's own modules that the packages need. A Python that was built without their libraries lacks them.
MODULES = ("_bz2", "_ctypes", "_lzma", "_sqlite3", "_ssl")
# uv does not read pip's settings. uv's variables of the same meaning, by pip's names.
VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
}
INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_TORCH_BACKEND")


def main() -> None:
    if sys.argv[1:] == ["lock"]:
        write_lock()
        return
    with LOCK.open() as lock:
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second `make` waits until the first has set up
        made_of = f"{VENV.resolve()} {find_interpreter()}\n{lock.read()}"  # .venv does not work at another path
        if read_ready() != made_of:
            make_environment(made_of)


def find_interpreter() -> str:
    """The path of the interpreter that runs this. Inside .venv, the path of .venv's original."""
    return str(Path(sys.executable).resolve())


def read_ready() -> str:
    """The contents of READY, or nothing where .venv is incomplete."""
    whole = READY.exists() and all((VENV / "bin" / tool).exists() for tool in TOOLS)
    return READY.read_text() if whole else ""


def make_environment(made_of: str) -> None:
    """Make .venv anew. Where only the lock has changed, update .venv, with the user's own packages in it."""
    if lacking := [name.lstrip("_") for name in MODULES if importlib.util.find_spec(name) is None]:
        sys.exit(
            f"error: {sys.executable} was built without {', '.join(lacking)}: install their libraries and build it "
            "again, or name another Python, as in make PYTHON=/usr/bin/python3"
        )
    if VENV.is_symlink():
        sys.exit(f"error: .venv is a link to {VENV.resolve()}, which has other packages: remove .venv, and try again")
    only_the_lock = read_ready().partition("\n")[0] == made_of.partition("\n")[0]
    print("updating .venv" if only_the_lock else "setting up .venv", flush=True)
    if only_the_lock:
        READY.unlink()  # after an interruption, .venv is made anew
    else:
        shutil.rmtree(VENV, ignore_errors=True)
    if not install_with_uv():
        print("pip installs the packages, in minutes", flush=True)
        make_with_pip()
        if not install_with_pip("--requirement", str(LOCK)):
            sys.exit("error: .venv is not set up, for the reason above; try again")
    READY.write_text(made_of)


def install_with_uv() -> bool:
    """Install the lock into .venv with uv. Returns whether that succeeded."""
    uv = shutil.which("uv")
    if uv is None:
        make_with_pip()
        locked = [line for line in LOCK.read_text().splitlines() if line.startswith("uv==")]
        if not install_with_pip(*locked):
            return False
        uv = str(VENV / "bin" / "uv")
    if not PYTHON.exists() and not run_uv(uv, "venv", "--python", find_interpreter(), str(VENV)):
        return False
    install = ("pip", "install", "--python", str(PYTHON), "--requirement", str(LOCK))
    if not has_index():  # PyTorch's own index has a build for this GPU, or for a CPU
        if run_uv(uv, *install, "--torch-backend", "auto"):
            return True
        print("PyTorch's build is therefore the one for CUDA", flush=True)
    return run_uv(uv, *install)


def run_uv(uv: str, *arguments: str) -> bool:
    """Run uv with pip's settings. Returns whether that succeeded; prints uv's reason as one line where not."""
    # Like pip, take the newest version of all indexes. A user's variables for uv come first.
    environment = {"UV_INDEX_STRATEGY": "unsafe-best-match", **read_settings(), **os.environ}
    command = [uv, "--quiet", *arguments]
    try:
        subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(error) if isinstance(error, OSError) else error.stderr
        print("uv fails:", *reason.split(), flush=True)
        return False
    return True


def has_index() -> bool:
    """Whether the user has named a package index, to pip or to uv."""
    return any({**read_settings(), **os.environ}.get(name) for name in INDEXES)


def read_settings() -> dict[str, str]:
    """pip's settings, as variables for uv. pip may not be installed, so this reads its files."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(find_settings())
    except (configparser.Error, UnicodeDecodeError) as error:
        sys.exit("error: pip's settings cannot be read: " + " ".join(str(error).split()))
    sections = [dict(parser[section]) for section in ("global", "install") if parser.has_section(section)]
    variables = {name[len("PIP_") :]: value for name, value in os.environ.items() if name.startswith("PIP_")}
    options = {}
    for values in (*sections, variables):  # the last value counts, as for pip
        options.update({name.lower().replace("_", "-"): value.split() for name, value in values.items()})
    return {
        variable: ("," if name == "find-links" else " ").join(options[name])
        for name, variable in VARIABLES.items()
        if options.get(name)
    }


def find_settings() -> list[str]:
    """The paths from which pip reads settings, in its order: a later file overrides an earlier one."""
    named = os.environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    home, mac = str(Path.home()), "/Library/Application Support"
    shared = [f"{folder}/pip" for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    user = os.environ.get("XDG_CONFIG_HOME", f"{home}/.config")
    folders = [*shared, f"{mac}/pip", "/etc", f"{home}/.pip", f"{home}{mac}/pip", f"{user}/pip", sys.prefix]
    return [*(f"{folder}/pip.conf" for folder in folders), named]


def make_with_pip() -> None:
    """Make .venv with pip in it, or add pip to it."""
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            f"error: {sys.executable} has no ensurepip, so that .venv would have no pip: install it "
            "(Debian: apt install python3-venv), or uv (https://docs.astral.sh/uv), and try again"
        )
    command = [find_interpreter(), "-m", "venv", str(VENV)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if answer.returncode:
        sys.exit(f"error: {' '.join(command)} fails: {' '.join(answer.stdout.split())}")


def install_with_pip(*packages: str) -> bool:
    """Install packages into .venv with pip. Returns whether that succeeded."""
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    here = {"PIP_USER": "0", "PIP_TARGET": "", "PIP_PREFIX": ""}  # the user's would install elsewhere
    return subprocess.run(command, env={**os.environ, **here}, check=False).returncode == 0


def write_lock() -> None:
    options = "--upgrade --no-header --no-annotate --all-extras --python-version 3.11 --output-file"
    backend = [] if has_index() else ["--torch-backend", "cpu"]  # the build for CUDA would add its libraries
    if not run_uv("uv", "pip", "compile", *options.split(), str(LOCK), "pyproject.toml", *backend):
        sys.exit("error: requirements.lock is as it was, for the reason above")
    LOCK.write_text(LOCK.read_text().replace("+cpu\n", "\n"))  # each machine's index decides on PyTorch's build


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("error: interrupted; run this again")
    except OSError as error:
        sys.exit(f"error: {error}")
