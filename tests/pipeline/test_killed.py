"""After Ctrl-C or kill -9 at random moments, `dvc repro` ends with the bytes of an undisturbed run.

`make torture` runs this for minutes. KILLS=100 kills more often, SEED=1 at different moments.
"""

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from processes import running, wait_for
from project import MINILM, STAGES, copy_project, outputs

pytestmark = pytest.mark.torture
KILLS = int(os.environ.get("KILLS", "30"))
SETTINGS = {
    "fetch__corpus": "minimal_pairs",
    "fetch__encoder": MINILM,
    "train__epochs": 2,
    "train__batch_size": 256,
    "train__max_steps": 30,  # of 22 in the first epoch
}


def list_processes(project):
    """Return {process id: stage or "dvc"} of the processes in the project's folder; a logger counts as its stage."""
    processes = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == project:
                line = (process / "cmdline").read_bytes().decode().replace("\0", " ")
                stages = (stage for stage in STAGES if f"-m stages.{stage}" in line)
                processes[int(process.name)] = next(stages, "dvc")
        except OSError:  # it has ended
            continue
    return processes


def kill(project, how):
    """Kill the stage's process, dvc's, or all; return the name of the killed stage, or "dvc"."""
    processes = list_processes(project)
    stages = {pid for pid, stage in processes.items() if stage in STAGES}
    for pid in {"stage": stages or processes, "dvc": processes.keys() - stages}.get(how, processes):
        os.kill(pid, signal.SIGKILL)
    return next((processes[pid] for pid in stages), "dvc")


@pytest.fixture(scope="module")
def expected(tmp_path_factory, run):
    """The outputs of an undisturbed run."""
    undisturbed = copy_project(tmp_path_factory.mktemp("undisturbed"), **SETTINGS)
    run(undisturbed, "dvc", "repro")
    assert len(outputs(undisturbed)) > 15
    return outputs(undisturbed)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "project").mkdir()
    return copy_project(tmp_path / "project", **SETTINGS)


def test_control_c_ends_at_once_and_names_the_step_to_resume_after(project, environment, run, expected):
    log = project.parent / "log"
    with running(["dvc", "repro"], log, cwd=project, env=environment) as pipeline:
        wait_for(lambda: list((project / ".dvc/tmp/checkpoints").glob("*.safetensors")), 600)
        os.killpg(pipeline.pid, signal.SIGINT)  # Ctrl-C reaches all that run in a terminal: a process group
        assert pipeline.wait(timeout=20) != 0
    assert "error: interrupted; `dvc repro` goes on after step 22\n" in log.read_text()  # 5,400 sentences by 256
    assert "Traceback" not in log.read_text()
    wait_for(lambda: not list_processes(project), 2)
    assert not list(project.rglob("*.partial"))
    run(project, "dvc", "repro")
    assert outputs(project) == expected


def start_afresh(project):
    """Remove all outputs, and the cache that would restore them."""
    for folder in (".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(project / folder)
    for name in ["dvc.lock", *outputs(project)]:
        (project / name).unlink()


def test_kills_do_not_change_the_outputs(project, environment, expected):
    chance, log = random.Random(int(os.environ.get("SEED", "0"))), project.parent / "log"
    killed, ended = Counter(), 0
    while killed.total() < KILLS or not ended:
        how, stage = chance.choice(["stage", "dvc", "all", "write"]), chance.choice(STAGES)
        patience, deadline = chance.uniform(0, 8), None  # seconds, once that stage runs
        with running(["dvc", "repro"], log, cwd=project, env=environment) as pipeline:
            while pipeline.poll() is None and killed.total() < KILLS:
                if deadline is None and stage in list_processes(project).values():
                    deadline = time.monotonic() + patience
                written = deadline and how == "write" and any(project.glob("**/.*.partial"))
                if written or (deadline and time.monotonic() > deadline):
                    killed[kill(project, how)] += 1
                    break
                time.sleep(0.001 if how == "write" else 0.05)
            status = pipeline.wait(timeout=300)
            assert "Traceback" not in log.read_text(), log.read_text()
            wait_for(lambda: not list_processes(project), 2, lambda: "a stage goes on without dvc")
        if status == 0:
            ended += 1
            assert outputs(project) == expected
            assert not any(project.glob("**/*.partial"))
            assert not any((project / ".dvc/tmp/checkpoints").iterdir())
            if killed.total() < KILLS:
                start_afresh(project)
    print(f"\nkilled {killed.total()} times ({dict(killed)}); {ended} runs ended, each with the same bytes")
    assert killed.total() >= KILLS
    assert KILLS < 30 or set(STAGES) <= killed.keys()
