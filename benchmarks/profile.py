"""The operations that take a training step's time: `python -m benchmarks.profile all-MiniLM-L6-v2` (random weights)."""

import statistics
import sys
from typing import Any

import pandas as pd
import torch
from torch import profiler
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from benchmarks import methods, workload
from cola.core.errors import UserError, run
from cola.model.device import describe_machine, prepare_device

STEPS = 10  # on a GPU the profiler takes about a second for each
OPERATIONS = 15  # in the table


def main() -> None:
    shape = sys.argv[1] if len(sys.argv) == 2 else ""
    if shape not in workload.SHAPES:
        raise UserError(f"SHAPE must be one of {', '.join(workload.SHAPES)}: make profile SHAPE=bert-base-uncased")
    device = prepare_device("auto")
    batches = workload.draw_batches(STEPS, seed=0)
    with methods.train_fast(workload.build_model(shape, device)) as train:
        train(batches)  # warm-up
        seconds = statistics.median(train(batches))
        operations = list_operations(train, batches, device)
    total = sum(time for _, time, _ in operations)
    rows = [
        (name, f"{time / total:.1%}", f"{time / STEPS / 1e3:.2f}", f"{count / STEPS:.0f}")
        for name, time, count in operations[:OPERATIONS]
    ]
    print(f"{shape}, a step of {seconds:.3f} s: {describe_machine(device)}")
    print(pd.DataFrame(rows, columns=["operation", "share", "ms a step", "calls a step"]).to_string(index=False))
    print(f"the profiler takes time, too: it measured {total / STEPS / 1e6:.3f} s a step; torch {torch.__version__}")
    if device.type == "cuda":
        waiting = 1 - total / STEPS / 1e6 / seconds
        print(f"the GPU waits {waiting:.0%} of the step's time for launches and Python")


def list_operations(
    train: methods.Timed, batches: list[workload.Batch], device: torch.device
) -> list[tuple[str, float, int]]:
    """Return name, microseconds without its parts' and number of calls of each operation, the longest first.

    On a GPU these are kernels and copies only. The operations that launch them would count their time twice.
    """
    gpu = device.type == "cuda"
    activities = [profiler.ProfilerActivity.CPU] + [profiler.ProfilerActivity.CUDA] * gpu
    with profiler.profile(activities=activities) as profiled:
        train(batches)
    averages: list[Any] = list(profiled.key_averages())
    if gpu:
        averages = [row for row in averages if row.device_type == DeviceType.CUDA and not row.is_user_annotation]
    time = "self_device_time_total" if gpu else "self_cpu_time_total"
    return sorted(((row.key, getattr(row, time), row.count) for row in averages), key=lambda row: -row[1])


if __name__ == "__main__":
    run(main)
