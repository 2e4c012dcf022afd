"""How a command ends: what a person did wrong or can mend is said in one line instead of a traceback."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend. The message names what is wrong, where, and what to do; it is one line."""


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`. A UserError ends it with status 1 and its one line on standard error."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted" + "; `dvc repro` goes on with this stage" * ("DVC_STAGE" in os.environ), file=sys.stderr)
        sys.exit(130)  # as shells have it: 128 + SIGINT
