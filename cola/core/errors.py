"""How a command ends: an error that the user can fix prints one line instead of a traceback."""

import errno
import gc
import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress


class UserError(Exception):
    """An error that the user can fix. Its message is one line: what happened, where, and what to do."""


# Parts of the messages of PyTorch on a CPU and on a GPU, of C++, and of oneDNN.
_OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory|bad_alloc|could not create a memory object")
_OUT_OF_MEMORY_REMEDY = (
    "out of memory: set train.micro_batch_tokens (to 2000, for example), lower tokenize.max_length, take a smaller "
    "fetch.encoder, or set precision to auto (and device to cpu if it is a GPU's memory)"
)


def join_lines(error: BaseException) -> str:
    """Return the message of a library's error, which may have several lines and colours, as one line."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())


def escape(text: str) -> str:
    """Return the text with each character that is not printable, such as a line break, as Python's escape for it."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def hide_passwords(text: str, urls: Iterable[str]) -> str:
    """Return the text with *** for the passwords, and a user's name without a password, that these URLs have.

    Libraries split a password at some characters, and show its parts.
    """
    for user in re.findall("^(?:.*?//)?(.*)@", "\n".join(urls), re.MULTILINE):
        for part in filter(None, re.split("[/@ ?#:]", user.partition(":")[2] or user)):
            text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "***", text)
    return text


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`. An error that the user can fix ends it with status 1 and one line on standard error."""
    gc.freeze()  # imported objects stay; scanning them again at exit would take a second
    gc.enable()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the shell closed it: `>&-`
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that the terminal's encoding lacks is shown as its code
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {escape(str(error))}")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        sys.exit(f"error: {_OUT_OF_MEMORY_REMEDY}")
    except BrokenPipeError:  # the reader has ended, as in `... | head`
        discard_output()
        sys.exit(1)
    except OSError as error:
        if error.filename is not None:
            sys.exit(f"error: {escape(str(error.filename))}: {error.strerror}; fix that and run this again")
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        discard_output()
        sys.exit(f"error: the output cannot be written: {error.strerror}; fix that and run this again")
    except KeyboardInterrupt:
        remedy = "; `dvc repro` goes on with this stage" if "DVC_STAGE" in os.environ else ""
        print(f"\ninterrupted{remedy}", file=sys.stderr)
        sys.exit(130)  # 128 + SIGINT, as in shells


def discard_output() -> None:
    """Send standard output nowhere. Otherwise Python fails at exit because it cannot be written."""
    with suppress(OSError, ValueError):  # it may have no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
