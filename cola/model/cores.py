"""The processor's cores: how many threads a process computes with, on which cores, and how its threads wait.

One training alone is fastest with a thread on every core, trainings side by side with a thread and a core each. The
bytes of a training depend on the number of its threads, so it stays as it is until the training ends. Threads that spin
while they wait are fastest on cores of their own, and many times slower on cores that other processes use.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Collection
from pathlib import Path

import torch

from cola.core import claims, paths

# Of this user on this machine: a core's number means another core on another machine that has the project's folder.
FOLDER = Path(tempfile.gettempdir(), f"cola-cores-{os.getuid()}")
ALL = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))
WORKERS = paths.SCRATCH / "exps" / "celery"  # where each worker of DVC's queue leaves its process id
PERIOD = 1.0  # seconds from one look at what others compute to the next
TOLERANCE = 0.2  # of a core: what others may use before threads stop spinning
_claimed: list[int] = []
_watching = threading.Event()


def use(threads: int | None = None) -> None:
    """Compute with so many threads, or with this process's share of the machine, on cores that no process has claimed.

    OMP_NUM_THREADS, where it is set, says how many threads. Where no core is free, the kernel chooses the cores, which
    are shared. To be called before the first computation; a second call takes the place of the first.
    """
    release()
    if "OMP_NUM_THREADS" in os.environ:
        threads = torch.get_num_threads()
    for core in ALL:
        if len(_claimed) < (threads or share(len(ALL), jobs_at_once())) and claims.claim(_name(core), FOLDER):
            _claimed.append(core)
    torch.set_num_threads(threads or len(_claimed) or 1)
    if sys.platform == "linux" and _claimed:
        os.sched_setaffinity(0, _claimed)
    if "OMP_NUM_THREADS" not in os.environ and len(_claimed) < len(ALL):
        own = f"{len(_claimed)} of {len(ALL)} cores, number {' '.join(map(str, _claimed))}"
        print(f"threads: {torch.get_num_threads()}, on {own if _claimed else 'cores that others use'}", flush=True)
    give_way()


def release() -> None:
    """Give back the cores that this process claimed; its next threads may run on all."""
    while _claimed:
        claims.release(_name(_claimed.pop()), FOLDER)
    if sys.platform == "linux":
        os.sched_setaffinity(0, ALL)


def share(cores: int, jobs: int) -> int:
    """The threads of each of so many jobs at once: at least one."""
    return max(1, cores // jobs)


def unclaimed() -> int:
    """How many cores no process has claimed."""
    return len(claims.unclaimed(map(_name, ALL), FOLDER))


def jobs_at_once() -> int:
    """How many experiments run at once: as many as DVC's queue has workers; 1 where it has none, or off Linux."""
    processes = [Path("/proc") / path.read_text() / "cmdline" for path in WORKERS.glob("*.pid")]
    running = [process for process in processes if process.exists() and b"queue-worker" in process.read_bytes()]
    return max(1, len(running))


def give_way() -> None:
    """From now on, have this process's threads sleep instead of spin whenever others compute on its cores.

    They sleep for the first second, too, in which that is not known. Only on Linux, where PyTorch's threads are those
    of GNU's OpenMP.
    """
    if sys.platform == "linux" and torch.get_num_threads() > 1 and not _watching.is_set():
        _watching.set()
        threading.Thread(target=_watch, args=[_stop_spinning()], daemon=True).start()


def _watch(end: threading.Event | None) -> None:
    """Have threads spin or sleep, forever; `end` is what ended their spinning, if anything has."""
    while True:
        cores = os.sched_getaffinity(os.getpid())
        crowded = is_crowded(torch.get_num_threads(), used_by_others(cores, PERIOD), len(cores))
        if crowded and not end:
            end = _stop_spinning()
        elif end and not crowded:
            end.set()
            end = None


def is_crowded(threads: int, others: float, cores: int) -> bool:
    """Whether threads would spin on cores that others use; `others` is how many cores those use."""
    return threads > 1 and threads + others > cores + TOLERANCE


def used_by_others(cores: Collection[int], seconds: float) -> float:
    """How many of these cores' time other processes use, in the seconds that follow."""
    before = time.perf_counter(), _seconds_of_all(cores) - time.process_time()
    time.sleep(seconds)
    return (_seconds_of_all(cores) - time.process_time() - before[1]) / (time.perf_counter() - before[0])


def _stop_spinning() -> threading.Event:
    """Have the threads sleep at once when they wait, until the event is set.

    OpenMP does so, with OMP_WAIT_POLICY=passive, as long as the process has more threads for it than there are cores.
    So idle teams of threads, each of a thread that computed something in parallel and then waits, make it that many.
    """
    end, threads = threading.Event(), torch.get_num_threads()

    def team() -> None:
        torch.ones(2**17).add_(1)  # large enough for PyTorch to use all its threads
        end.wait()

    for _ in range((len(ALL) - threads) // (threads - 1) + 1):
        threading.Thread(target=team, daemon=True).start()
    return end


def _seconds_of_all(cores: Collection[int]) -> float:
    """For how long these cores have computed, for anyone, since the machine started."""
    names, seconds = {f"cpu{core}" for core in cores}, 0.0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in names:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            seconds += (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return seconds


def _name(core: int) -> str:
    return f"core-{core}"
