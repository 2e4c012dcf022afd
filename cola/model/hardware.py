"""The machine: which device, and how the same seed gives the same bytes on it."""

import ctypes
import os
import resource
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout

from cola.core.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device to compute on, made to repeat its results: 'auto' takes cuda, then mps, then cpu.

    Of several GPUs it is one that no other stage has: workers of DVC's queue run side by side; or, of a training on
    several processes, each has its own. Raises UserError where the device asked for is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(each for each, there in available.items() if there)
    if not available[name]:
        raise UserError(f"params.yaml asks for device {name}, and this machine has none; set it to auto or cpu")
    if name == "cuda" and dist.is_torchelastic_launched():
        if int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
            raise UserError(f"train.processes is more than this machine's GPUs: {torch.cuda.device_count()}")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    elif name == "cuda" and torch.cuda.device_count() > 1:
        torch.cuda.set_device(
            claim_gpu(torch.cuda.device_count(), Path(os.environ.get("DVC_ROOT", "."), ".dvc", "tmp"))
        )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS may not repeat its sums
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory with NaN is a guard for debugging, and takes a quarter of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device(name)


_CLAIMS: list[FileLock] = []  # held until the process ends, however it ends


def claim_gpu(count: int, folder: Path) -> int:
    """The number, from 0, of one of `count` GPUs: one without a lock in `folder`; where all have one, any."""
    for number in range(count):
        lock = FileLock(folder / f"gpu-{number}.lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            continue
        _CLAIMS.append(lock)
        return number
    return os.getpid() % count


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type in which matrices are multiplied: 'auto' takes bfloat16 where the processor has units for it.

    Weights, gradients, sums and the optimizer stay in float32 either way. Raises UserError where bfloat16 is asked for
    and would be emulated.
    """
    if device.type == "cpu":
        units = any(has and "bf16" in name for name, has in torch.cpu.get_capabilities().items())
    else:
        units = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "bfloat16" and not units:
        raise UserError("params.yaml asks for precision bfloat16, and this device has no units for it; set it to auto")
    return torch.bfloat16 if units and name != "float32" else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """The context in which PyTorch multiplies matrices in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)


def fix_seed(seed: int) -> None:
    """Fix what PyTorch draws from here on, on every device: the classifier's head, then dropout."""
    torch.manual_seed(seed)


def peak_memory(device: torch.device) -> float:
    """The most memory that this process has had at once, in GiB: on a GPU, of its memory; else of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def describe(device: torch.device) -> str:
    """What a person calls the device: 'NVIDIA H200', or 'cpu, 2 threads'."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: else each step asks the kernel for the same gigabyte again, page by page."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # not in every C library
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, bytes: the highest that it takes
