"""How a command ends: what a person did wrong or can mend is said in one line instead of a traceback."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend. The message names what is wrong, where, and what to do; it is one line."""


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`. A UserError ends it with status 1 and its one line on standard error.

    A stage ends with the `dvc` that runs it, however that ends: else it would go on, and the next `dvc repro` run a
    second one beside it.
    """
    stage = "DVC_STAGE" in os.environ
    if stage and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted" + "; `dvc repro` goes on with this stage" * stage, file=sys.stderr)
        sys.exit(130)  # as shells have it: 128 + SIGINT
