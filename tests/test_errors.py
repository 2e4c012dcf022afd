import subprocess
import sys

import pytest

from cola.errors import UserError, run


def test_a_user_error_ends_a_command_with_one_line_and_status_1():
    code = "from cola.errors import UserError, run\ndef main():\n    raise UserError('set it to 3')\nrun(main)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", "error: set it to 3\n")


def test_any_other_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: print(1 / 0))


def test_a_command_that_ends_well_is_run_once(capsys):
    run(lambda: print("done"))
    assert capsys.readouterr() == ("done\n", "")


def test_a_user_error_says_what_it_was_given():
    assert str(UserError("params.yaml is missing")) == "params.yaml is missing"
