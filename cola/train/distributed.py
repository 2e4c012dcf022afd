"""One training on several processes, of one machine or more, each of which computes a share of every batch.

torchrun starts them. Without other processes every function here does nothing, and reports rank 0 of a world of size 1.
"""

import hashlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record

from cola.core import files, paths
from cola.core.errors import UserError, one_line
from cola.model.device import choose_threads

MACHINES = ("PET_MASTER_ADDR", "PET_MASTER_PORT", "PET_NNODES", "PET_NODE_RANK")  # torchrun's own variables


def needs_launch(processes: int) -> bool:
    """Whether this process must start torchrun: several processes or machines are asked for, and it is none of them.

    PET_NNODES, torchrun's own variable, asks for several machines.
    """
    return (processes > 1 or "PET_NNODES" in os.environ) and not dist.is_torchelastic_launched()


def launch(module: str, processes: int) -> None:
    """Run `python -m module` under torchrun in so many processes, and wait for them.

    PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR and PET_MASTER_PORT make them a part of what several machines run.
    Raises UserError where a process fails, when torchrun ends the others, or where the machines do not meet.
    """
    from torch.distributed import run  # takes a second: only here
    from torch.distributed.elastic.multiprocessing.api import SignalException

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, choose_threads() // processes)))
    if "PET_NNODES" not in os.environ:
        os.environ |= dict(zip(MACHINES, ("127.0.0.1", str(_free_port()), "1", "0"), strict=True))
    address, *numbers = values = [os.environ.get(name, "") for name in MACHINES]
    variables = " ".join(f"{name}={value}" for name, value in zip(MACHINES, values, strict=True))
    if not (address and all(map(str.isdecimal, numbers)) and int(numbers[2]) < int(numbers[1])):
        raise UserError(
            f"{variables}: set all four, numbers but for the address, the rank from 0 (docs/performance.md)"
        )
    # No restarts: a training that fails goes on from its checkpoint when the stage runs again. The static rendezvous
    # gives the machine PET_NODE_RANK=0 the process of rank 0, and unpickles nothing.
    arguments = ["--rdzv-backend=static", f"--nproc-per-node={processes}", "--max-restarts=0", "--module", module]
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # `_reason` reports what matters of it
    paths.SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.SCRATCH) as logs:  # torchrun's own would stay behind
        try:
            run.run(run.parse_args([f"--log-dir={logs}", *arguments]))
        except ChildFailedError as error:
            raise _reason(error) from None
        except SignalException as error:
            raise KeyboardInterrupt from error
        except Exception as error:  # any of torchrun's own
            fault = one_line(error)
            raise UserError(f"{variables}: the machines did not meet ({fault}); see docs/performance.md") from None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _reason(error: ChildFailedError) -> Exception:
    """The cause: a fault of the user's, any fault outside a collective, or the signal that ended a process.

    What fails in a collective, in torch's distributed_c10d.py, lost its peer. SIGTERM is torchrun's.
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
    signals = {rank: failure.signal_name() for rank, failure in error.failures.items() if failure.exitcode < 0}
    for rank in sorted(signals, key=lambda rank: signals[rank] != "SIGKILL"):
        if signals[rank] != "SIGTERM":
            reason = "killed, maybe for want of memory" if signals[rank] == "SIGKILL" else f"ended by {signals[rank]}"
            return UserError(f"process {rank} of the training was {reason}; {remedy}")
    if faults:
        lost = " ".join(faults[0]["message"].split())
        return UserError(f"the training lost a process, whose machine says why ({lost}); {remedy}")
    return RuntimeError(str(error))


def errors_to_launcher(main: Callable[[], None]) -> Callable[[], None]:
    """A `main` that, in a process of torchrun's, leaves its error to the process that called `launch`.

    So the error is printed once, however many processes there are.
    """

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
    """Join the processes that torchrun started, if it did. All but rank 0 print nothing.

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
    dist.destroy_process_group()  # not after a fault, when it could wait for peers that are gone


def rank() -> int:
    """Which of the processes this is, from 0. Rank 0 alone writes, records and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are, on all machines."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(tensors: Iterable[Tensor]) -> None:
    """Make each tensor the sum over all processes, in place: the same bytes in each process."""
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
    """The processes' tensors, all of one shape, by rank, on the CPU."""
    if not dist.is_initialized():
        return [tensor]
    local = tensor.to(device)
    gathered = [torch.empty_like(local) for _ in range(world_size())]
    dist.all_gather(gathered, local)
    return [received.cpu() for received in gathered]


def require_same(contents: Mapping[str, Iterable[bytes]], device: torch.device) -> None:
    """Raise UserError, in all processes alike, where one of the contents, by its name, is not that of rank 0."""
    if not dist.is_initialized():
        return
    digests = []
    for parts in contents.values():
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        digests.append(list(digest.digest()))
    gathered = all_gather(torch.tensor(digests, dtype=torch.uint8), device)
    for rank, received in enumerate(gathered):
        for name, digest, expected in zip(contents, received, gathered[0], strict=True):
            if not digest.equal(expected):
                raise UserError(f"processes 0 and {rank} differ in {name}: make it the same on every machine")


def broadcast_file(path: Path, device: torch.device) -> None:
    """Give every machine the file of rank 0; remove `path` where rank 0 has none."""
    if not dist.is_initialized() or os.environ["GROUP_WORLD_SIZE"] == "1":
        return
    sender = rank() == 0
    size = int(all_reduce_max(path.stat().st_size if sender and path.exists() else 0, device))
    if sender and size:
        content = torch.from_file(str(path), size=size, dtype=torch.uint8)
    else:
        content = torch.zeros(size, dtype=torch.uint8)
    content = content.to(device)
    dist.broadcast(content, 0)
    if not sender and os.environ["LOCAL_RANK"] == "0":
        path.unlink(missing_ok=True)
        if size:
            with files.atomic_file(path) as partial:
                content.cpu().numpy().tofile(partial)
    dist.barrier()
