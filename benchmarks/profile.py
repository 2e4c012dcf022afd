"""Where a training step's time goes: `python -m benchmarks.profile all-MiniLM-L6-v2` (random weights).

The shape is one of benchmarks/workload.py.
"""

import statistics
import sys
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from benchmarks import methods, table, workload
from cola.core.errors import UserError, run
from cola.model.device import describe_machine, prepare_device

STEPS, SHOWN = 10, 15


def main() -> None:
    shape = sys.argv[1] if len(sys.argv) == 2 else ""
    if shape not in workload.SHAPES:
        raise UserError(f"which shape? one of {', '.join(workload.SHAPES)}: make profile SHAPE=bert-base-uncased")
    device = prepare_device("auto")
    batches = workload.batches(STEPS, seed=0)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with methods.train_fast(workload.model(shape, device)) as train:
        train(batches)  # warm-up
        seconds = statistics.median(train(batches))
        with profile(activities=activities) as profiler:
            train(batches)
    spent = operations(profiler.key_averages(), device)
    total = sum(time for _, time, _ in spent)
    table.show(
        f"{shape}, a step of {seconds:.3f} s: {describe_machine(device)}",
        ("operation", "share", "ms a step", "calls a step"),
        (
            (name, f"{time / total:.1%}", f"{time / STEPS / 1e3:.2f}", f"{count / STEPS:.0f}")
            for name, time, count in spent[:SHOWN]
        ),
    )
    print(f"the profiler itself takes time: it saw {total / STEPS / 1e6:.3f} s a step; torch {torch.__version__}")


def operations(averages: Any, device: torch.device) -> list[tuple[str, float, int]]:
    """(name, microseconds that it took itself, how often it ran) of all operations, the longest first.

    Of a GPU these are its kernels and copies alone: an operation that launches them has their time once more.
    """
    if device.type == "cuda":
        averages = [each for each in averages if each.device_type == DeviceType.CUDA and not each.is_user_annotation]
    on = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return sorted(((each.key, getattr(each, on), each.count) for each in averages), key=lambda found: -found[1])


if __name__ == "__main__":
    run(main)
