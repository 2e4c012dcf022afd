"""Threads and cores of processes side by side. (That they are fast so was measured: docs/scaling.md.)"""

import os
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest
import torch
from filelock import FileLock
from project import ROOT

from cola.model import cores

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who computes on which core")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of four cores, and a queue of DVC's without workers; gives the cores of this process, and their claims.

    Nothing is changed of this process itself: set["threads"] and set["cores"] are what it would have.
    """
    found = {}
    monkeypatch.setattr(cores, "ALL", [0, 1, 2, 3])
    monkeypatch.setattr(cores, "FOLDER", tmp_path / "claims")
    monkeypatch.setattr(cores, "WORKERS", tmp_path / "workers")
    monkeypatch.setattr(cores, "_claimed", [])
    monkeypatch.setattr(cores, "give_way", lambda: None)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, chosen: found.update(cores=list(chosen)), raising=False)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: found.update(threads=threads))
    monkeypatch.setattr(torch, "get_num_threads", lambda: found.get("threads", 4))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "claims").mkdir()
    (tmp_path / "workers").mkdir()
    yield found
    for core in cores._claimed:
        cores.claims.release(f"core-{core}", cores.FOLDER)


@pytest.fixture
def taken(machine):
    """taken(0, 1): another process has claimed these cores."""
    with ExitStack() as stack:
        yield lambda *numbers: [stack.enter_context(FileLock(cores.FOLDER / f"core-{core}.lock")) for core in numbers]


def test_a_training_alone_has_all_cores(machine, capsys):
    cores.use()
    assert machine == {"threads": 4, "cores": [0, 1, 2, 3]}
    assert cores.unclaimed() == 0
    assert capsys.readouterr().out == ""


def test_a_training_beside_others_has_the_cores_that_are_free(machine, taken, capsys):
    taken(0, 2)
    assert cores.unclaimed() == 2
    cores.use()
    assert machine == {"threads": 2, "cores": [1, 3]}
    assert capsys.readouterr().out == "threads: 2, on 2 of 4 cores, number 1 3\n"


def test_a_training_that_finds_no_core_has_one_thread_and_the_kernel_finds_it_a_place(machine, taken, capsys):
    taken(0, 1, 2, 3)
    cores.use()
    assert machine == {"threads": 1, "cores": [0, 1, 2, 3]}
    assert capsys.readouterr().out == "threads: 1, on cores that others use\n"


def test_the_workers_of_a_queue_share_the_cores(machine, tmp_path):
    """Two real processes under the name that DVC gives its workers, and the files of two that have ended."""
    with ExitStack() as stack:
        for number in (1, 2):
            command = [
                sys.executable,
                "-c",
                "print(flush=True)\ninput()",
                "exp",
                "queue-worker",
                f"dvc-exp-abc-{number}@localhost",
            ]
            worker = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            worker.stdout.readline()
            (tmp_path / f"workers/dvc-exp-worker-{number}.pid").write_text(str(worker.pid))
        (tmp_path / "workers/dvc-exp-worker-3.pid").write_text(str(os.getpid()))  # its number is another's by now
        (tmp_path / "workers/dvc-exp-worker-4.pid").write_text("4194305")  # more than Linux gives
        assert cores.jobs_at_once() == 2
        cores.use()
        assert machine == {"threads": 2, "cores": [0, 1]}


def test_omp_num_threads_decides_how_many_threads(machine, taken, monkeypatch, capsys):
    taken(0)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    machine["threads"] = 2
    cores.use(3)  # as a checkpoint has it
    assert machine == {"threads": 2, "cores": [1, 2]}
    assert capsys.readouterr().out == ""


def test_a_training_that_goes_on_has_its_number_of_threads_whatever_is_free(machine, taken):
    cores.use()
    cores.use(2)
    assert machine == {"threads": 2, "cores": [0, 1]}
    assert cores.unclaimed() == 2
    taken(2, 3)
    cores.use(4)
    assert machine == {"threads": 4, "cores": [0, 1]}


@pytest.mark.parametrize(("jobs", "threads"), [(1, 8), (2, 4), (3, 2), (8, 1), (9, 1)])
def test_each_job_has_its_share_of_eight_cores(jobs, threads):
    assert cores.share(8, jobs) == threads


@pytest.mark.parametrize(
    ("threads", "others", "count", "expected"),
    [(2, 0.1, 2, False), (2, 0.3, 2, True), (2, 1.0, 4, False), (2, 2.5, 4, True), (1, 5.0, 1, False)],
)
def test_cores_are_crowded_where_others_need_them_too(threads, others, count, expected):
    assert cores.is_crowded(threads, others, count) == expected


@linux
def test_what_others_compute_is_seen_and_what_this_process_computes_is_not_counted(monkeypatch):
    core = cores.ALL[0]
    busy = f"import os\nos.sched_setaffinity(0, [{core}])\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert 0.8 < cores.used_by_others([core], 0.5) < 1.1
        own = iter([0.0, 0.4])
        monkeypatch.setattr(cores.time, "process_time", lambda: next(own))
        assert 0.0 < cores.used_by_others([core], 0.5) < 0.4
        other.kill()


def test_threads_stop_spinning_while_others_compute_and_spin_again_afterwards(monkeypatch):
    crowded, ends = iter([False, True, True, False, True, None]), []

    def stop_spinning():
        ends.append(threading.Event())
        return ends[-1]

    real = cores.used_by_others

    def used(*arguments):
        if threading.current_thread() is not threading.main_thread():  # an earlier test's
            return real(*arguments)
        if (answer := next(crowded)) is None:
            raise InterruptedError
        return 1.0 if answer else 0.0

    monkeypatch.setattr(cores, "_stop_spinning", stop_spinning)
    monkeypatch.setattr(cores, "used_by_others", used)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    with pytest.raises(InterruptedError):
        cores._watch(stop_spinning())
    assert [end.is_set() for end in ends] == [True, True, False]  # the first one is from before any look


@linux
@pytest.mark.skipif(len(cores.ALL) < 2, reason="one core, one thread")
def test_threads_that_do_not_spin_sleep_at_each_wait():
    code = """
import resource, time
import cola, torch
from cola.model import cores
def sleeps():  # for each operation
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    for _ in range(2000):
        torch.ones(2**17).add_(1)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before) / 4000
torch.set_num_threads(2)
torch.ones(2**17).add_(1)
end = cores._stop_spinning()
time.sleep(0.2)
print(sleeps())
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    spinning = {"GOMP_SPINCOUNT": "1000000000", "OMP_WAIT_POLICY": "passive"}  # else they would sleep now and then
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment | spinning, capture_output=True, text=True, check=True
    )
    assert float(answer.stdout) > 0.5
