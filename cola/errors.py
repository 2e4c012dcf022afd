"""What a person did wrong or can mend, said in one line instead of a traceback."""

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
