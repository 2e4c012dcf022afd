"""A stage ends when the dvc that runs it has died."""

import os
import sys
import textwrap
from pathlib import Path

import pytest
from processes import run_to_end, wait_for

START = "from cola.core import processes; processes.start_stage()"
DIED = "error: the dvc that started this stage has died; run `dvc repro` again\n"


@pytest.mark.parametrize(
    ("variables", "ended"),
    [
        ({"DVC_PID": str(os.getpid())}, (0, "runs\n", "")),
        ({"DVC_PID": ""}, (0, "runs\n", "")),  # a shell without PPID
        ({}, (0, "runs\n", "")),
        ({"DVC_PID": "1"}, (1, "", DIED)),
    ],
    ids=["a living dvc", "an unknown dvc", "no dvc", "a dead dvc"],
)
def test_a_stage_runs_unless_its_dvc_has_died(variables, ended):
    stage = run_to_end([sys.executable, "-c", f"{START}; print('runs')"], DVC_STAGE="train", **variables)
    assert (stage.returncode, stage.stdout, stage.stderr) == ended


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has prctl")
def test_a_running_stage_ends_when_dvc_is_killed():
    code = f"import time\n{START}\nprint('ready', flush=True)\ntime.sleep(60)"
    dvc = textwrap.dedent(f"""
        import os, subprocess
        stage = subprocess.Popen([{sys.executable!r}, "-c", {code!r}], stdout=subprocess.PIPE)
        stage.stdout.readline()
        print(stage.pid, flush=True)
        os.kill(os.getpid(), 9)
    """)
    killed = run_to_end([sys.executable, "-c", dvc], DVC_STAGE="train")
    process = Path("/proc", killed.stdout.strip())
    wait_for(lambda: not process.exists() or (process / "stat").read_text().split()[2] == "Z", 5)
