import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import dvc.repo
import pytest
import torch
from project import ROOT

from cola.core import paths
from cola.core.errors import UserError
from cola.experiments import jobs

GIB = 2**30


@pytest.mark.parametrize(
    ("trainings", "cores", "memory", "processes", "chosen", "expected"),
    [
        (10, 2, 24, 1, None, (2, 1)),
        (10, 64, 512, 1, None, (10, 6)),
        (18, 16, 24, 1, None, (6, 2)),  # memory for six
        (10, 16, 2, 1, None, (1, 16)),
        (10, 8, 512, 4, None, (2, 1)),
        (10, 4, 512, 8, None, (1, 1)),
        (10, 8, 512, 1, 2, (4, 2)),
        (10, 2, 512, 1, 4, (1, 4)),
        (0, 2, 24, 1, None, (1, 2)),
    ],
)
def test_as_many_at_once_as_cores_and_memory_allow(trainings, cores, memory, processes, chosen, expected):
    assert jobs.plan(trainings, cores, memory * GIB, processes, chosen) == expected


@pytest.fixture
def queue(monkeypatch):
    """A queue of five experiments; gives the commands that DVC is given, and OMP_NUM_THREADS of each."""
    commands = []

    class Repo:
        experiments = SimpleNamespace(celery_queue=SimpleNamespace(iter_queued=lambda: iter(range(5))))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def run(command, env, check):
        commands.append((command, env.get("OMP_NUM_THREADS")))
        return SimpleNamespace(returncode=len(commands) - 1)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(dvc.repo, "Repo", Repo)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 4 * 2**20, "SC_PAGE_SIZE": 4096}[name])  # 16 GiB
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return commands


def test_the_queue_is_run_side_by_side_and_it_is_said_how(queue, monkeypatch, capsys):
    monkeypatch.setattr(jobs, "choose_device", torch.device)
    monkeypatch.setattr(
        jobs.params, "load", lambda _: SimpleNamespace(device="cpu", train=SimpleNamespace(processes=1))
    )
    monkeypatch.setattr(jobs, "cpu_count", lambda: 8)
    jobs.run_queued()
    command = ["dvc", "exp", "run", "--run-all", "--jobs", "4"]
    assert queue == [(command, "2")]
    assert capsys.readouterr().out == "trainings: 5, 4 at once, threads of each: 2\n"
    with pytest.raises(UserError, match=r"^dvc exp run failed: see above$"):
        jobs.run_queued()


def test_on_gpus_as_many_as_are_free(queue, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(jobs, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(jobs, "count_free_gpus", lambda _: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(paths, "SCRATCH", Path(tmp_path))
    jobs.run_queued()
    assert queue == [(["dvc", "exp", "run", "--run-all", "--jobs", "2"], None)]
    assert capsys.readouterr().out == "trainings: 5, 2 at once, each on a NVIDIA H200\n"
