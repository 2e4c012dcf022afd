"""Have DVC run what its queue has, as many at once as this machine does best: `python -m cola.experiments.jobs`.

On a processor, trainings side by side with a thread each do more than one after the other with all threads.
"""

import os
import subprocess

import torch
from joblib import cpu_count

from cola.core import params, paths
from cola.core.errors import UserError, run
from cola.model.device import choose_device, count_free_gpus, device_name

MEMORY = 4 * 2**30  # bytes for each training at once: bert-base takes 2.6 GiB


def plan(trainings: int, cores: int, memory: int, processes: int, threads: int | None) -> tuple[int, int]:
    """How many of the trainings to run at once on a processor, and the threads of each process.

    `cores` and `memory`, in bytes, are the machine's, `processes` are those of each training; `threads` is not None
    where the user has chosen it.
    """
    jobs = max(1, min(trainings, cores // (processes * (threads or 1)), memory // MEMORY))
    return jobs, threads or max(1, cores // (jobs * processes))


def run_queued() -> None:
    """Run what is queued; the output is DVC's. Raises UserError where dvc fails."""
    from dvc.repo import Repo  # takes a second: only here

    settings = params.load(paths.PARAMS)
    with Repo() as repo:
        trainings = len(list(repo.experiments.celery_queue.iter_queued()))
    device = choose_device(settings.device)
    environment = dict(os.environ)
    if device.type == "cpu":
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        chosen = torch.get_num_threads() if "OMP_NUM_THREADS" in environment else None
        jobs, threads = plan(trainings, cpu_count(), memory, settings.train.processes, chosen)
        environment["OMP_NUM_THREADS"] = str(threads)
        print(f"trainings: {trainings}, {jobs} at once, threads of each: {threads}", flush=True)
    else:
        free = count_free_gpus(paths.SCRATCH) if device.type == "cuda" else 0
        jobs = max(1, min(trainings, free // settings.train.processes))
        print(f"trainings: {trainings}, {jobs} at once, each on a {device_name(device)}", flush=True)
    command = ["dvc", "exp", "run", "--run-all", "--jobs", str(jobs)]
    if subprocess.run(command, env=environment, check=False).returncode:
        raise UserError("dvc exp run failed: see above")


if __name__ == "__main__":
    run(run_queued)
