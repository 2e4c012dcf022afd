"""One training on several processes, of one machine or more: torchrun starts them; each takes its share of every batch.

Without other processes every function here does nothing, and says that this is the first of one.
"""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record

from cola.core import files
from cola.core.errors import UserError


def needs_launch(processes: int) -> bool:
    """Whether this process is to start the training's instead of being one: several are asked for, or machines
    (PET_NNODES, torchrun's own variable), and torchrun has not started this one."""
    return (processes > 1 or "PET_NNODES" in os.environ) and not dist.is_torchelastic_launched()


def launch(module: str, processes: int) -> None:
    """Run `python -m module` under torchrun, as often as `processes` says, and wait.

    PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR and PET_MASTER_PORT make it a part of what several machines run. Raises
    UserError where a process fails; the others are ended.
    """
    from torch.distributed import run  # takes a second: only here
    from torch.distributed.elastic.multiprocessing.api import SignalException

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    if "PET_NNODES" not in os.environ:
        os.environ |= {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(_free_port())}
    # No restarts: a training that fails goes on from its checkpoint when the stage runs again. The static rendezvous
    # gives the machine PET_NODE_RANK=0 the process of rank 0, and unpickles nothing.
    arguments = ["--rdzv-backend=static", f"--nproc-per-node={processes}", "--max-restarts=0", "--module", module]
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what matters of it is said here
    try:
        run.run(run.parse_args(arguments))
    except ChildFailedError as error:
        raise _reason(error) from None
    except SignalException as error:
        raise KeyboardInterrupt from error


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _reason(error: ChildFailedError) -> Exception:
    """What the process that failed said, or which signal ended it; the others only lost their peer."""
    failures = error.failures.items()
    for rank, failure in failures:
        if failure.exitcode == -signal.SIGKILL:
            killed = f"process {rank} of the training was killed, maybe for want of memory"
            return UserError(f"{killed}; `dvc repro` goes on from its last checkpoint")
    messages: list[Any] = [failure.message for _, failure in failures]
    said = [message for message in messages if isinstance(message, dict)]  # as `record` writes it
    for each in said:
        if each["message"].startswith("UserError: "):
            return UserError(each["message"].removeprefix("UserError: "))
    return RuntimeError("\n".join(each["extraInfo"]["py_callstack"] for each in said) or str(error))


def report_once(main: Callable[[], None]) -> Callable[[], None]:
    """A `main` whose faults, in a process that `launch` has started, are for that one to say: see `_reason`."""

    def silent() -> None:
        try:
            record(main)()
        except (Exception, KeyboardInterrupt):
            if not dist.is_torchelastic_launched():
                raise
            sys.exit(1)

    return silent


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Be one of the processes that torchrun started, if it did. All but the first are silent."""
    if not dist.is_torchelastic_launched():
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        if rank():
            sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is, from 0. The first alone writes, records and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(tensors: Iterable[Tensor]) -> None:
    """Make each tensor the sum of all processes', in place: the same bytes in each."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)


def all_reduce_max(value: float, device: torch.device) -> float:
    """The largest of the processes' values."""
    if not dist.is_initialized():
        return value
    found = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found.item()


def broadcast_file(path: Path, device: torch.device) -> None:
    """Give every machine the first one's file; remove what is there where the first has none."""
    if not dist.is_initialized() or os.environ["GROUP_WORLD_SIZE"] == "1":
        return
    first = rank() == 0
    size = int(all_reduce_max(path.stat().st_size if first and path.exists() else 0, device))
    content = torch.from_file(str(path), size=size, dtype=torch.uint8) if first and size else torch.zeros(size).byte()
    content = content.to(device)
    dist.broadcast(content, 0)
    if not first and os.environ["LOCAL_RANK"] == "0":
        path.unlink(missing_ok=True)
        if size:
            with files.atomic_file(path) as partial:
                content.cpu().numpy().tofile(partial)
    dist.barrier()


def all_gather(tensor: Tensor, device: torch.device) -> list[Tensor]:
    """Each process's tensor, of one shape, by rank, on the CPU."""
    if not dist.is_initialized():
        return [tensor]
    mine = tensor.to(device)
    found = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(found, mine)
    return [each.cpu() for each in found]
