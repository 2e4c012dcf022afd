"""The machine: device, precision, threads, claims of GPUs, and settings that make results repeat."""

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

DRIVER = Path("/proc/driver/nvidia/version")  # where the kernel has NVIDIA's driver
_claimed_gpus: list[FileLock] = []  # held until the process ends


def prepare_device(name: str) -> torch.device:
    """Return the device that params.yaml names, and set up this process to compute on it with bytes that repeat.

    It sets the process's threads, its GPU, PyTorch's algorithms and malloc's treatment of freed memory. Raises
    UserError if the machine has no such device, or fewer free GPUs than train.processes asks for.
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
    """Return the device. 'auto' is cuda if present, else cpu; never mps, which does not promise to repeat its bytes.

    Prints a note where 'auto' leaves out a GPU because PyTorch has another build. Raises UserError if the machine does
    not have the device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    fault = "this machine has none"
    if name != "mps" and DRIVER.exists() and not available["cuda"] and "CUDA_VISIBLE_DEVICES" not in os.environ:
        fault = f"PyTorch {torch.__version__} cannot use this machine's NVIDIA GPU: install its build for the driver"
        if name == "auto":
            print(f"note: {fault}; without it the CPU computes", file=sys.stderr)
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    if not available[name]:
        raise UserError(f"params.yaml asks for device {name}, and {fault}; or set it to auto or cpu")
    return torch.device(name)


def choose_threads() -> int:
    """Return OMP_NUM_THREADS; by default the cores that this process may use, within a container's CPU quota.

    Other programs' work does not change it, because a training's bytes depend on the number of threads.
    """
    return torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else cpu_count()


def choose_gpu(folder: Path) -> int:
    """Return the index of the GPU for this process, which it claims by a lock in `folder`.

    Experiments run side by side, and so do the processes of a training. If all GPUs are claimed, an experiment shares
    a GPU, which is slow; a training's process must not share, and raises UserError. If the file system has no locks,
    the processes of a training take the GPUs by their ranks.
    """
    try:
        # CUDA_VISIBLE_DEVICES changes a GPU's index from process to process, but not its UUID.
        uuids = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
        gpu = claim_gpu(uuids, folder)
    except OSError as error:
        print(f"warning: GPUs are not claimed, so trainings may share one: {error}", file=sys.stderr)
        return int(os.environ.get("LOCAL_RANK", os.getpid())) % torch.cuda.device_count()
    if gpu is None and dist.is_torchelastic_launched():
        raise UserError(f"train.processes is more than this machine's free GPUs; it has {torch.cuda.device_count()}")
    return os.getpid() % torch.cuda.device_count() if gpu is None else gpu


def claim_gpu(uuids: Sequence[str], folder: Path) -> int | None:
    """Claim the first GPU that is free. Returns its index; None if all are claimed."""
    for index, uuid in enumerate(uuids):
        lock = FileLock(folder / f"gpu-{uuid}.lock")
        with suppress(Timeout):
            lock.acquire(timeout=0)
            _claimed_gpus.append(lock)
            return index
    return None


def make_deterministic() -> None:
    """Make PyTorch choose algorithms that repeat their bytes, on every device."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # otherwise cuBLAS may not repeat its sums
    torch.use_deterministic_algorithms(True)
    # Filling new memory with NaN helps debugging only, and takes a quarter of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_freed_memory() -> None:
    """Make glibc keep freed memory. Otherwise every step asks the kernel for the same gigabyte again, page by page."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # some C libraries have none
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, bytes: the highest allowed


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the data type in which matrices are multiplied. 'auto' is the best that the device has units for.

    The best is bfloat16, then float16 on GPUs of compute capability 7.0 or more (V100, T4), then float32. Weights,
    gradients, sums and the optimizer stay in float32. Raises UserError if the device would emulate bfloat16.
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
    """Return the context in which PyTorch multiplies matrices in `precision`."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


def get_random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return PyTorch's random states by device type, uint8 tensors on the CPU: the CPU's, and an accelerator's."""
    return {kind: _get_random_module(kind).get_rng_state() for kind in ("cpu", device.type)}


def set_random_state(device_type: str, state: torch.Tensor) -> None:
    """Set one of the states that `get_random_states` has returned."""
    _get_random_module(device_type).set_rng_state(state)


def _get_random_module(device_type: str) -> Any:
    return torch if device_type == "cpu" else torch.get_device_module(device_type)


def measure_peak_memory(device: torch.device) -> float:
    """Return the peak memory of this process in GiB: the GPU's memory on a GPU, otherwise the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def describe_machine(device: torch.device) -> str:
    """Return the parts of the machine that determine a result: 'NVIDIA H200', or 'AMD EPYC, 2 threads'."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    info = Path("/proc/cpuinfo")
    model = re.search("model name\\s*: (.*)", info.read_text()) if info.exists() else None
    threads = torch.get_num_threads()
    name = model[1] if model else platform.processor() or "cpu"
    return f"{name}, {threads} thread{'s' * (threads > 1)}"
