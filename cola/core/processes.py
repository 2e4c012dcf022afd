"""Processes that end with the one that started them."""

import ctypes
import os
import signal
import sys


def end_with_parent(parent: int) -> bool:
    """Have the kernel kill this process as soon as its parent has ended, however that ends: Linux alone can do so.

    `parent` is the parent's process id. Returns whether it still lives.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    return os.getppid() == parent
