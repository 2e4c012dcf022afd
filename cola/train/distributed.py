"""One training on several processes, on one machine or more. Each process computes a share of every batch.

torchrun starts the processes. In a training of one process, the functions that communicate do nothing.
"""

import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record

from cola.core import files, paths
from cola.core.errors import UserError, join_lines
from cola.model.device import choose_threads

MACHINES = ("PET_MASTER_ADDR", "PET_MASTER_PORT", "PET_NNODES", "PET_NODE_RANK")  # torchrun's own variables


def needs_launch(processes: int) -> bool:
    """Whether this process must start torchrun: it must for several processes, or machines (PET_NNODES)."""
    return (processes > 1 or "PET_NNODES" in os.environ) and not dist.is_torchelastic_launched()


def launch(module: str, processes: int) -> None:
    """Run `python -m module` under torchrun in `processes` processes, and wait for them.

    With MACHINES set, torchrun connects them to the processes of other machines. Raises UserError if a process fails,
    which ends the others, or if the machines do not connect.
    """
    from torch.distributed import run  # takes a second: only here
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.utils.distributed import get_free_port

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, choose_threads() // processes)))
    if "PET_NNODES" not in os.environ:
        os.environ |= dict(zip(MACHINES, ("127.0.0.1", str(get_free_port()), "1", "0"), strict=True))
    address, *numbers = values = [os.environ.get(name, "") for name in MACHINES]
    variables = " ".join(f"{name}={value}" for name, value in zip(MACHINES, values, strict=True))
    if not (address and all(map(str.isdecimal, numbers)) and int(numbers[2]) < int(numbers[1])):
        raise UserError(f"{variables}: set all four to an address and three numbers, as in docs/performance.md")
    # No restarts: a training that failed continues from its checkpoint when the stage runs again. The static rendezvous
    # puts rank 0 on the machine with PET_NODE_RANK=0, and unpickles nothing.
    arguments = ["--rdzv-backend=static", f"--nproc-per-node={processes}", "--max-restarts=0", "--module", module]
    logging.disable(logging.ERROR)  # `_explain` reports torchrun's faults
    paths.SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.SCRATCH) as logs:  # torchrun would leave its default folder behind
        try:
            run.run(run.parse_args([f"--log-dir={logs}", *arguments]))
        except ChildFailedError as error:
            raise _explain(error) from None
        except SignalException as error:
            raise KeyboardInterrupt from error
        except Exception as error:  # torchrun raises many kinds
            fault = join_lines(error)
            raise UserError(f"{variables}: the machines did not connect ({fault}); see docs/performance.md") from None


def _explain(error: ChildFailedError) -> Exception:
    """The error to raise: the user's fault, else a fault outside a collective, else the signal that ended a process.

    A fault in a collective, in torch's distributed_c10d.py, means only that another process ended. So does SIGTERM,
    which torchrun sends.
    """
    messages: list[Any] = [failure.message for failure in error.failures.values()]
    faults = [message for message in messages if isinstance(message, dict)]  # as `record` writes them
    for fault in faults:
        if fault["message"].startswith("UserError: "):
            return UserError(fault["message"].removeprefix("UserError: "))
    stacks = [fault["extraInfo"]["py_callstack"] for fault in faults]
    if causes := [stack for stack in stacks if "distributed_c10d.py" not in stack]:
        return RuntimeError("\n".join(causes))
    remedy = "`dvc repro` goes on from its last checkpoint"
    signals = {number: failure.signal_name() for number, failure in error.failures.items() if failure.exitcode < 0}
    for number in sorted(signals, key=lambda number: signals[number] != "SIGKILL"):
        if signals[number] != "SIGTERM":
            reason = (
                "killed, perhaps because memory ran out"
                if signals[number] == "SIGKILL"
                else f"ended by {signals[number]}"
            )
            return UserError(f"process {number} of the training was {reason}; {remedy}")
    if faults:
        message = " ".join(faults[0]["message"].split())
        return UserError(f"the training lost a process; the error is on that process's machine ({message}); {remedy}")
    return RuntimeError(str(error))


def leave_errors_to_launcher(main: Callable[[], None]) -> Callable[[], None]:
    """A `main` whose error, in torchrun's processes, is raised in the process that called `launch`.

    So an error is printed once, however many processes there are.
    """

    def run_silently() -> None:
        try:
            record(main)()
        except (Exception, KeyboardInterrupt):
            if not dist.is_torchelastic_launched():
                raise
            sys.exit(1)

    return run_silently


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Connect the processes that torchrun started, if it did. Only rank 0 prints.

    Raises UserError on mps, whose tensors PyTorch cannot send between processes.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    if device.type == "mps":
        raise UserError("several processes cannot train on mps: set train.processes to 1, or device to cpu")
    if device.type == "cuda":
        dist.init_process_group("nccl", device_id=torch.device("cuda", torch.cuda.current_device()))
    else:
        dist.init_process_group("gloo")
    if rank():
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
    yield
    dist.destroy_process_group()  # not after an error: it could wait for processes that have ended


def rank() -> int:
    """This process's number, from 0. Only rank 0 writes, records and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes, on all machines."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(tensors: Iterable[Tensor]) -> None:
    """Sum each tensor over all processes, in place. All processes get the same bytes."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)


def all_reduce_max(value: float, device: torch.device) -> float:
    """The largest value over all processes."""
    if not dist.is_initialized():
        return value
    largest = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest.item()


def all_gather(tensor: Tensor, device: torch.device) -> list[Tensor]:
    """All processes' tensors, which have the same shape, by rank, on the CPU."""
    if not dist.is_initialized():
        return [tensor]
    local = tensor.to(device)
    gathered = [torch.empty_like(local) for _ in range(world_size())]
    dist.all_gather(gathered, local)
    return [received.cpu() for received in gathered]


def require_same(contents: Mapping[str, str], device: torch.device) -> None:
    """Raise UserError, in all processes alike, if one of the contents, by its name, differs from that of rank 0."""
    digests = [list(hashlib.sha256(content.encode()).digest()) for content in contents.values()]
    gathered = all_gather(torch.tensor(digests, dtype=torch.uint8), device)
    for number, received in enumerate(gathered):
        for name, digest, expected in zip(contents, received, gathered[0], strict=True):
            if not digest.equal(expected):
                raise UserError(f"processes 0 and {number} differ in {name}: make it the same on every machine")


def broadcast_file(path: Path, device: torch.device) -> None:
    """Copy rank 0's file to every other machine. Where rank 0 has none, remove theirs."""
    if not dist.is_initialized() or os.environ["GROUP_WORLD_SIZE"] == "1":
        return
    is_sender = rank() == 0
    content = np.fromfile(path, np.uint8) if is_sender and path.exists() else np.empty(0, np.uint8)
    size = int(all_reduce_max(len(content), device))
    tensor = torch.from_numpy(content if is_sender else np.empty(size, np.uint8)).to(device)
    dist.broadcast(tensor, 0)
    if not is_sender and os.environ["LOCAL_RANK"] == "0":
        path.unlink(missing_ok=True)
        if size:
            with files.atomic_file(path) as partial:
                tensor.cpu().numpy().tofile(partial)
    dist.barrier()
