"""How a command ends: what a person did wrong or can mend is said in one line instead of a traceback."""

import gc
import os
import re
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend. The message names what is wrong, where, and what to do; it is one line."""


# What PyTorch says on a CPU, on a GPU, and what C++ says.
_MEMORY = re.compile("can't allocate memory|out of memory|bad_alloc|could not create a memory object")
_ENOUGH_MEMORY = (
    "memory is too small: set train.micro_batch_tokens (to 2000, say), lower tokenize.max_length, take a smaller "
    "fetch.encoder, or set precision to bfloat16 (device to cpu, where it is a GPU's memory)"
)


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`. What a person can mend ends it with status 1 and one line on standard error."""
    gc.freeze()  # what is imported is no garbage: looking through it once more at the end takes a second
    gc.enable()
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _MEMORY.search(str(error)):
            raise
        sys.exit(f"error: {_ENOUGH_MEMORY}")
    except BrokenPipeError:  # of `... | head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tells of it once more, at its end
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted" + "; `dvc repro` goes on with this stage" * ("DVC_STAGE" in os.environ), file=sys.stderr)
        sys.exit(130)  # as shells have it: 128 + SIGINT
