"""A stage ends with the dvc that runs it, however that ends, whoever inherits the stage."""

import os
import sys
import textwrap
from pathlib import Path

import pytest
from processes import finished, wait_for

START = "from cola.core import processes; processes.start_stage()"
DIED = "error: the dvc that started this stage has died; run `dvc repro` again\n"
linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")


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
    stage = finished([sys.executable, "-c", f"{START}; print('runs')"], DVC_STAGE="train", **variables)
    assert (stage.returncode, stage.stdout, stage.stderr) == ended


@linux
def test_a_stage_that_runs_ends_when_dvc_is_killed():
    code = f"import time\n{START}\nprint('ready', flush=True)\ntime.sleep(60)"
    dvc = textwrap.dedent(f"""
        import os, subprocess
        stage = subprocess.Popen([{sys.executable!r}, "-c", {code!r}], stdout=subprocess.PIPE)
        stage.stdout.readline()
        print(stage.pid, flush=True)
        os.kill(os.getpid(), 9)
    """)
    killed = finished([sys.executable, "-c", dvc], DVC_STAGE="train")
    process = Path("/proc", killed.stdout.strip())
    wait_for(lambda: not process.exists() or (process / "stat").read_text().split()[2] == "Z", 5)


@linux
def test_an_orphan_that_another_process_than_the_first_inherits_ends():
    """dvc dies while the stage starts; this process, a subreaper, inherits it."""
    dvc = textwrap.dedent(f"""
        import os, subprocess, time
        command = "DVC_PID=$PPID exec sh -c 'sleep 0.5; exec {sys.executable} -c \\"{START}; print(1)\\"'"
        subprocess.Popen(["sh", "-c", command], env=os.environ | {{"DVC_STAGE": "train"}})
        time.sleep(0.2)
        os.kill(os.getpid(), 9)
    """)
    subreaper = textwrap.dedent(f"""
        import ctypes, os, subprocess, sys
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
        subprocess.run([sys.executable, "-c", {dvc!r}])
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """)
    ended = finished([sys.executable, "-c", subreaper])
    assert (ended.stdout, ended.stderr) == ("1\n", DIED)


def test_a_dvc_that_is_the_first_process_of_a_container_runs_its_stages():
    container = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
    if finished([*container, "true"]).returncode:
        pytest.skip("a namespace of process ids is needed")
    command = f"DVC_PID=$PPID exec {sys.executable} -c '{START}'"
    dvc = (
        f"import os, subprocess; assert os.getpid() == 1; command = {command!r}; "
        "subprocess.run(['sh', '-c', command], env=os.environ | {'DVC_STAGE': 'train'}, check=True)"
    )
    ended = finished([*container, sys.executable, "-c", dvc])
    assert ended.returncode == 0, ended.stderr
