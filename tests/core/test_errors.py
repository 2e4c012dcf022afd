import sys

import pytest
import torch
from processes import run_to_end

from cola.core.errors import hide_passwords, run


def run_main(body, **variables):
    """Run a command whose main has this body; return how it ended."""
    code = f"from cola.core.errors import UserError, run\ndef main():\n    {body}\nrun(main)"
    return run_to_end([sys.executable, "-c", code], **variables)


@pytest.mark.parametrize(
    ("body", "stage", "status", "message"),
    [
        ("raise UserError('set it to 3')", {}, 1, "error: set it to 3\n"),
        ("raise UserError('a\\nb\\x1b[31m é \\udce9')", {}, 1, "error: a\\nb\\x1b[31m é \\udce9\n"),
        ("open('/')", {}, 1, "error: /: Is a directory; fix that and run this again\n"),
        ("raise KeyboardInterrupt", {}, 130, "\ninterrupted\n"),
        (
            "raise KeyboardInterrupt",
            {"DVC_STAGE": "train"},
            130,
            "\ninterrupted; `dvc repro` goes on with this stage\n",
        ),
    ],
)
def test_an_error_that_the_user_can_fix_ends_a_command_in_one_line(body, stage, status, message):
    ended = run_main(body, **stage)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", message)


def raise_cuda_error():
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("main", [lambda: torch.empty(10**15), lambda: bytearray(10**18), raise_cuda_error])
def test_too_little_memory_is_one_line_that_names_the_settings_that_help(main):
    with pytest.raises(SystemExit, match=r"^error: out of memory: set train\.micro_batch_tokens[^\n]*$"):
        run(main)


def test_any_other_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: print(1 / 0))


def test_a_reader_that_ends_early_is_no_error():
    code = "from cola.core.errors import run\ndef main():\n    while True: print('line')\nrun(main)"
    ended = run_to_end(["bash", "-c", f'{sys.executable} -c "{code}" | head -1'])
    assert (ended.stdout, ended.stderr) == ("line\n", "")


@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [
        (
            "> /dev/full",
            1,
            "error: the output cannot be written: No space left on device; fix that and run this again\n",
        ),
        (">&-", 0, ""),
        ("<&-", 0, ""),
    ],
)
def test_an_output_that_is_full_and_a_closed_stream_are_no_traceback(redirection, status, message):
    code = "import sys\nfrom cola.core.errors import run\nrun(lambda: print(sys.stdin.read()))"
    ended = run_to_end(["bash", "-c", f'{sys.executable} -c "{code}" {redirection}'])
    assert (ended.returncode, ended.stderr) == (status, message)


@pytest.mark.parametrize(
    ("url", "text", "shown"),
    [
        ("http://joe:ab12@host", "joe, ab12: no", "joe, ***: no"),
        ("http://joe:ab/1@2@host", "'ab' of joe, 21, 2", "'***' of joe, 21, ***"),
        ("joe:ab12@host:5000", "host, ab12", "host, ***"),
        ("https://a-token@host", "a-token", "***"),
        ("https://host/joe", "joe", "joe"),
    ],
)
def test_the_parts_of_a_password_are_hidden(url, text, shown):
    assert hide_passwords(text, [url, "file:mine"]) == shown
