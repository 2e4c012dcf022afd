import sys

import pytest
from processes import finished

from cola.core.errors import run


def test_a_user_error_ends_a_command_with_one_line_and_status_1():
    code = "from cola.core.errors import UserError, run\ndef main():\n    raise UserError('set it to 3')\nrun(main)"
    answer = finished([sys.executable, "-c", code])
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", "error: set it to 3\n")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise UserError('a\\nb\\x1b[31m é \\udce9')", "a\\nb\\x1b[31m é \\udce9"),
        ("open('/')", "/: Is a directory; fix that and run this again"),
    ],
)
def test_whatever_an_error_names_it_is_one_line(fault, told):
    code = f"from cola.core.errors import UserError, run\ndef main():\n    {fault}\nrun(main)"
    answer = finished([sys.executable, "-c", code])
    assert (answer.returncode, answer.stderr) == (1, f"error: {told}\n")


def test_any_other_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: print(1 / 0))


@pytest.mark.parametrize(
    ("stage", "message"),
    [({}, "\ninterrupted\n"), ({"DVC_STAGE": "train"}, "\ninterrupted; `dvc repro` goes on with this stage\n")],
)
def test_an_interrupt_ends_a_command_in_one_line(stage, message):
    code = "from cola.core.errors import run\ndef main():\n    raise KeyboardInterrupt\nrun(main)"
    answer = finished([sys.executable, "-c", code], **stage)
    assert (answer.returncode, answer.stderr) == (130, message)


def test_a_reader_that_ends_early_is_no_error():
    code = "from cola.core.errors import run\ndef main():\n    while True: print('line')\nrun(main)"
    command = ["bash", "-c", f'{sys.executable} -c "{code}" | head -1']
    answer = finished(command)
    assert (answer.stdout, answer.stderr) == ("line\n", "")


@pytest.mark.parametrize(
    "fault",
    [
        "import torch; torch.empty(10**15)",
        "bytearray(10**18)",
        "raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB.')",
    ],
)
def test_too_little_memory_is_one_line_that_says_which_settings_help(fault):
    code = f"from cola.core.errors import run\ndef main():\n    {fault}\nrun(main)"
    answer = finished([sys.executable, "-c", code])
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: out of memory: set train.micro_batch_tokens")
    assert answer.stderr.count("\n") == 1
