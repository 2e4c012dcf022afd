"""kill -9 at random moments of a real `dvc repro`: what follows ends well, with the bytes of an undisturbed run.

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
from test_pipeline import MINILM, copy_of_the_project, outputs

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("KILLS", "30"))
STAGES = ("fetch", "tokenize", "train", "evaluate", "sample_predict")
SETTINGS = {"fetch__corpus": "minimal_pairs", "fetch__encoder": MINILM, "train__epochs": 3, "train__batch_size": 256}


def processes(project):
    """Ids of the processes that work in the project's folder, and which stage each runs."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == project:
                line = (process / "cmdline").read_bytes().decode().replace("\0", " ")
                found[int(process.name)] = next((stage for stage in STAGES if f"-m stages.{stage}" in line), "dvc")
        except OSError:  # it has ended
            continue
    return found


def kill(project, how):
    """Kill the stage's process, or dvc's, or all; returns what was killed."""
    there = processes(project)
    stages = {pid for pid, stage in there.items() if stage != "dvc"}
    chosen = {"stage": stages or there, "dvc": there.keys() - stages, "all": there}[how]
    for pid in chosen:
        os.kill(pid, signal.SIGKILL)
    return next((there[pid] for pid in stages), "dvc")


def test_whatever_is_killed_the_end_is_the_same(tmp_path, environment):
    (tmp_path / "undisturbed").mkdir()
    (tmp_path / "killed").mkdir()
    undisturbed = copy_of_the_project(tmp_path / "undisturbed", **SETTINGS)
    subprocess.run(["dvc", "repro"], cwd=undisturbed, env=environment, capture_output=True, check=True)
    expected = outputs(undisturbed)
    assert len(expected) > 15

    chance = random.Random(int(os.environ.get("SEED", "0")))
    project = copy_of_the_project(tmp_path / "killed", **SETTINGS)
    killed, ended = Counter(), 0
    while killed.total() < KILLS or not ended:
        with (tmp_path / "log").open("w") as log:
            run = subprocess.Popen(["dvc", "repro"], cwd=project, env=environment, stdout=log, stderr=log)
        how, patience = chance.choice(["stage", "dvc", "all", "write"]), chance.uniform(1, 9)
        deadline = time.monotonic() + patience
        while run.poll() is None and killed.total() < KILLS:
            written = how == "write" and any(project.glob("**/.*.partial"))
            if written or time.monotonic() > deadline:
                killed[kill(project, "all" if how == "write" else how)] += 1
                break
            time.sleep(0.001 if how == "write" else 0.05)
        status = run.wait(timeout=300)
        said = (tmp_path / "log").read_text()
        assert "Traceback" not in said, said
        for _ in range(40):  # two seconds
            if not processes(project):
                break
            time.sleep(0.05)
        assert processes(project) == {}, "a stage went on without dvc"
        if status == 0:
            ended += 1
            found = outputs(project)
            assert found.keys() == expected.keys()
            assert [name for name in found if found[name] != expected[name]] == []
            assert not any(project.glob("**/*.partial"))
            assert not any((project / ".dvc/tmp/checkpoints").iterdir())
            if killed.total() < KILLS:  # from the start, without a cache to restore from
                for folder in ("data", "models", "metrics", ".dvc/cache", ".dvc/tmp"):
                    shutil.rmtree(project / folder)
                (project / "dvc.lock").unlink()
    print(f"\nkilled {killed.total()} times ({dict(killed)}); {ended} runs ended, each with the same bytes")
    assert killed.total() >= KILLS
