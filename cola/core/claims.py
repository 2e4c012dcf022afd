"""What of a machine a process has for itself, a GPU or a core: locks, which the system frees when the process ends."""

from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

_HELD: dict[Path, FileLock] = {}


def claim(name: str, folder: Path) -> bool:
    """Claim what `name` stands for; False where a process has claimed it, this one or another."""
    lock = FileLock(_path(name, folder), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return False
    _HELD[_path(name, folder)] = lock
    return True


def release(name: str, folder: Path) -> None:
    """Give back what this process claimed."""
    _HELD.pop(_path(name, folder)).release()


def unclaimed(names: Iterable[str], folder: Path) -> list[str]:
    """Those that no process has claimed at this moment."""
    free = [name for name in names if claim(name, folder)]
    for name in free:
        release(name, folder)
    return free


def _path(name: str, folder: Path) -> Path:
    return folder / f"{name}.lock"
