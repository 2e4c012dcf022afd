"""The machine: device, precision and threads, the claim of a GPU, and what makes results repeat."""

import ctypes
import os
import platform
import re
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from joblib import cpu_count

from cola.core import paths
from cola.core.errors import UserError

_claimed_gpus: list[FileLock] = []  # held until the process ends


def prepare_device(name: str) -> torch.device:
    """The device that params.yaml names, and this process made ready to compute on it with bytes that repeat.

    It changes the whole process: its threads, its GPU, PyTorch's choice of algorithms, what malloc does with freed
    memory. Raises UserError where the machine has no such device, or fewer free GPUs than train.processes asks for.
    """
    device = choose_device(name)
    if device.type == "cpu":
        torch.set_num_threads(choose_threads())
    if device.type == "cuda":
        torch.cuda.set_device(choose_gpu(paths.SCRATCH))
    make_deterministic()
    keep_freed_memory()
    return device


def choose_device(name: str) -> torch.device:
    """'auto' is cuda, else cpu: mps, which does not promise the same bytes twice, is taken by its name only.

    Raises UserError where the device asked for is not present.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    if not available[name]:
        raise UserError(f"params.yaml asks for device {name}, and this machine has none; set it to auto or cpu")
    return torch.device(name)


def choose_threads() -> int:
    """OMP_NUM_THREADS; by default every core that this process may use: a container's CPU quota counts, other work not.

    The bytes of a training depend on the number of its threads.
    """
    return torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else cpu_count()


def choose_gpu(folder: Path) -> int:
    """The index of the GPU that this process computes on; its claim is a lock in `folder`.

    Workers of DVC's queue, and the processes of one training, run side by side: each claims a GPU of its own. Where
    all are claimed, a worker shares one, which is slow; a training on several processes cannot, and raises UserError.
    Where the file system takes no lock, the processes of one training share the GPUs out by their numbers.
    """
    try:
        # With CUDA_VISIBLE_DEVICES, indices differ by process, and UUIDs do not.
        uuids = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
        gpu = claim_gpu(uuids, folder)
    except OSError as error:
        print(f"warning: GPUs are not claimed, so trainings may share one: {error}", file=sys.stderr)
        return int(os.environ.get("LOCAL_RANK", os.getpid())) % torch.cuda.device_count()
    if gpu is None and dist.is_torchelastic_launched():
        raise UserError(f"train.processes is more than this machine's free GPUs; it has {torch.cuda.device_count()}")
    return os.getpid() % torch.cuda.device_count() if gpu is None else gpu


def claim_gpu(uuids: Sequence[str], folder: Path) -> int | None:
    """The index of the first GPU that no process has claimed, now claimed by this one; None where all are claimed."""
    for index, uuid in enumerate(uuids):
        lock = FileLock(folder / f"gpu-{uuid}.lock")
        with suppress(Timeout):
            lock.acquire(timeout=0)
            _claimed_gpus.append(lock)
            return index
    return None


def make_deterministic() -> None:
    """Have PyTorch choose algorithms that give the same bytes each time, on every device."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS may not repeat its sums
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory with NaN is a guard for debugging, and takes a quarter of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: else each step asks the kernel for the same gigabyte again, page by page."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # not in every C library
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, bytes: the highest that it takes


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type in which matrices are multiplied: 'auto' is the best that the device has units for.

    That is bfloat16; float16 on GPUs of compute capability 7.0 and more without it (V100, T4); else float32. Weights,
    gradients, sums and the optimizer stay in float32. Raises UserError where bfloat16 is asked for and would be
    emulated; float16, asked for, is computed on every device.
    """
    if device.type == "cpu":
        has_bfloat16 = any(present for unit, present in torch.cpu.get_capabilities().items() if "bf16" in unit)
    else:
        has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "bfloat16" and not has_bfloat16:
        raise UserError("params.yaml asks for precision bfloat16, and this device has no units for it; set it to auto")
    if name != "auto":
        return getattr(torch, name)
    has_float16 = device.type == "cuda" and torch.cuda.get_device_capability() >= (7, 0)
    return torch.bfloat16 if has_bfloat16 else torch.float16 if has_float16 else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """The context in which PyTorch multiplies matrices in `precision`."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


def random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """PyTorch's random states by device type, as uint8 tensors on the CPU: the CPU's, and the accelerator's if any."""
    return {kind: _random(kind).get_rng_state() for kind in ("cpu", device.type)}


def set_random_state(device_type: str, state: torch.Tensor) -> None:
    """Put back one of `random_states`."""
    _random(device_type).set_rng_state(state)


def _random(device_type: str) -> Any:
    """The module that has the functions of a device type's random state."""
    return torch if device_type == "cpu" else torch.get_device_module(device_type)


def peak_memory(device: torch.device) -> float:
    """The most memory that this process has had at once, in GiB: on a GPU, of its memory; else of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def device_name(device: torch.device) -> str:
    """What people call the device: 'NVIDIA H200', or 'cpu'."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def describe_machine(device: torch.device) -> str:
    """The machine, as far as it determines a result: 'NVIDIA H200', or 'AMD EPYC, 2 threads'."""
    if device.type != "cpu":
        return device_name(device)
    info = Path("/proc/cpuinfo")
    model = re.search("model name\\s*: (.*)", info.read_text()) if info.exists() else None
    threads = torch.get_num_threads()
    return f"{model[1] if model else platform.processor() or 'cpu'}, {threads} thread{'s' * (threads > 1)}"
