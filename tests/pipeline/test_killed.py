"""Ctrl-C, and kill -9 at random moments, in a real `dvc repro`: the next ends well, with an undisturbed run's bytes.

`make torture` runs it: it takes minutes. KILLS=100 kills more often, SEED=1 at other moments.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from processes import wait_for
from project import MINILM, STAGES, copy_of_the_project, outputs

pytestmark = pytest.mark.torture
KILLS = int(os.environ.get("KILLS", "30"))
SETTINGS = {
    "fetch__corpus": "minimal_pairs",
    "fetch__encoder": MINILM,
    "train__epochs": 2,
    "train__batch_size": 256,
    "train__max_steps": 30,
}  # of 22 in the first epoch


def processes(project):
    """{process id: the stage (also for its logger) or "dvc"} of the processes that work in the project's folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == project:
                line = (process / "cmdline").read_bytes().decode().replace("\0", " ")
                modules = {f"-m stages.{stage}": stage for stage in STAGES}
                found[int(process.name)] = next((name for module, name in modules.items() if module in line), "dvc")
        except OSError:  # it has ended
            continue
    return found


def kill(project, how):
    """Kill the stage's process, or dvc's, or all; returns what was killed."""
    running = processes(project)
    stages = {pid for pid, stage in running.items() if stage in STAGES}
    chosen = {"stage": stages or running, "dvc": running.keys() - stages, "all": running}[how]
    for pid in chosen:
        os.kill(pid, signal.SIGKILL)
    return next((running[pid] for pid in stages), "dvc")


@pytest.fixture(scope="module")
def expected(tmp_path_factory, run):
    """What an undisturbed run writes."""
    undisturbed = copy_of_the_project(tmp_path_factory.mktemp("undisturbed"), **SETTINGS)
    run(undisturbed, "dvc", "repro")
    found = outputs(undisturbed)
    assert len(found) > 15
    return found


def test_control_c_ends_at_once_and_says_where_training_goes_on(tmp_path, environment, run, expected):
    project = copy_of_the_project(tmp_path, **SETTINGS)
    checkpoints = project / ".dvc/tmp/checkpoints"
    with (project / "log").open("w") as log:  # Ctrl-C reaches all that run in a terminal: a process group
        pipeline = subprocess.Popen(
            ["dvc", "repro"], cwd=project, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    wait_for(lambda: list(checkpoints.glob("*.safetensors")), 600)
    pressed = time.monotonic()
    os.killpg(pipeline.pid, signal.SIGINT)
    assert pipeline.wait(timeout=20) != 0
    took = time.monotonic() - pressed
    printed = (project / "log").read_text()
    assert "error: interrupted; `dvc repro` goes on after step 22\n" in printed  # 5,400 sentences by 256
    assert "Traceback" not in printed
    wait_for(lambda: not processes(project), 2)
    assert not list(project.rglob("*.partial"))
    run(project, "dvc", "repro")
    assert outputs(project) == expected
    print(f"\nCtrl-C: ended after {took:.1f} s; the resumed run wrote the same bytes")


def test_whatever_is_killed_the_end_is_the_same(tmp_path, environment, expected):
    chance = random.Random(int(os.environ.get("SEED", "0")))
    (tmp_path / "project").mkdir()
    project = copy_of_the_project(tmp_path / "project", **SETTINGS)
    killed, ended = Counter(), 0
    while killed.total() < KILLS or not ended:
        with (tmp_path / "log").open("w") as log:
            run = subprocess.Popen(["dvc", "repro"], cwd=project, env=environment, stdout=log, stderr=log)
        how, stage = chance.choice(["stage", "dvc", "all", "write"]), chance.choice(STAGES)
        patience, deadline = chance.uniform(0, 8), None  # seconds, once that stage runs
        while run.poll() is None and killed.total() < KILLS:
            if deadline is None and stage in processes(project).values():
                deadline = time.monotonic() + patience
            written = deadline and how == "write" and any(project.glob("**/.*.partial"))
            if written or (deadline and time.monotonic() > deadline):
                killed[kill(project, "all" if how == "write" else how)] += 1
                break
            time.sleep(0.001 if how == "write" else 0.05)
        status = run.wait(timeout=300)
        printed = (tmp_path / "log").read_text()
        assert "Traceback" not in printed, printed
        wait_for(lambda: not processes(project), 2, lambda: "a stage goes on without dvc, or its logger without it")
        if status == 0:
            ended += 1
            found = outputs(project)
            assert found.keys() == expected.keys()
            assert [name for name in found if found[name] != expected[name]] == []
            assert not any(project.glob("**/*.partial"))
            assert not any((project / ".dvc/tmp/checkpoints").iterdir())
            if killed.total() < KILLS:  # from the start, without a cache to restore from
                for folder in (".dvc/cache", ".dvc/tmp"):
                    shutil.rmtree(project / folder)
                for name in outputs(project):
                    (project / name).unlink()
                (project / "dvc.lock").unlink()
    print(f"\nkilled {killed.total()} times ({dict(killed)}); {ended} runs ended, each with the same bytes")
    assert killed.total() >= KILLS
    assert KILLS < 30 or set(STAGES) <= killed.keys()
