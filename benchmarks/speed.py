"""How fast this pipeline trains and predicts, compared with the tutorial's loop and transformers' Trainer.

`make bench` runs every method on the same batches and prints medians and their ratios to bert-cola. It writes figures
to benchmarks/results/<machine>-<precision>.json as soon as it has them, so an interrupted run leaves its figures.

On a CPU the methods take turns, because other work comes and goes; a ratio is the median of the rounds' ratios. The
roofline is a lower bound of a training step: the time of its arithmetic at the machine's rate of matrix products, plus
the time of the optimizer's bytes at the machine's rate of copying memory.

On a GPU (`python -m benchmarks.speed --device cuda bert-base-uncased`) every method runs once, and the figures include
the GPU's memory. Neither dvc nor mlflow is needed.
"""

import argparse
import gc
import itertools
import json
import multiprocessing
import os
import re
import statistics
import timeit
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import psutil
import torch
import transformers
from tqdm import tqdm

from benchmarks import methods, workload
from cola.core import files
from cola.core.errors import UserError, join_lines, run
from cola.model import families
from cola.model.device import choose_precision, measure_peak_memory, prepare_device

RESULTS = Path("benchmarks/results")
Figures = dict[str, Any]  # of a method; {"fault": message} if it failed


class Turns(NamedTuple):
    """How long a method is measured."""

    rounds: int
    warm_up: int  # steps before the timed steps of a turn
    seconds: float  # for the timed steps of a turn


TURNS = {"cpu": Turns(rounds=3, warm_up=2, seconds=5.0), "cuda": Turns(rounds=1, warm_up=20, seconds=3.0)}


class Task(NamedTuple):
    """A turn of a method, for a process to measure."""

    kind: str  # training or prediction
    shape: str  # a key of workload.SHAPES
    method: str  # a key of methods.METHODS[kind], or roofline
    turn: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("shapes", nargs="*", help=f"some of {', '.join(workload.SHAPES)}; all by default")
    arguments = parser.parse_args()
    shapes = arguments.shapes or list(workload.SHAPES)
    if unknown := set(shapes) - set(workload.SHAPES):
        parser.error(f"{min(unknown)} is no shape; choose from {', '.join(workload.SHAPES)}")
    # Trainer would use all GPUs.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device; leave the option out to measure the CPU")
    device = prepare_device(arguments.device)
    if device.type == "cpu" and (busy := psutil.cpu_percent(1.0)) > 15:
        raise UserError(f"other programs take {busy:.0f}% of this machine, which spoils every timing: end them first")
    machine = workload.describe_machine_and_precision(device)
    path = RESULTS / f"{re.sub('[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"  # nvidia-h200-bfloat16.json
    turns = TURNS["cuda" if device.type == "cuda" else "cpu"]
    for task in tqdm(list_tasks(device.type, shapes, turns.rounds), "turns of methods"):
        save(path, machine, task, measure_in_new_process(task, workload.SHAPES[task.shape], device.type, turns))
    results = json.loads(path.read_text())
    for kind in methods.METHODS:
        print(f"\n{kind}, {workload.BATCH_SIZE} sentences a step, ratio to bert-cola: {machine}")
        print(tabulate(results, kind).to_string(index=False, na_rep="", float_format="{:.4g}".format))
    print(f"{path} has the figures of every round")


def list_tasks(device_type: str, shapes: Sequence[str], rounds: int) -> list[Task]:
    """Return the tasks in order: the methods of a shape take turns, and torch.compile, which takes minutes, is last."""
    names = {
        kind: [name for name in by_method if device_type == "cuda" or name not in methods.ONLY_ON_A_GPU]
        for kind, by_method in methods.METHODS.items()
    }
    if device_type == "cpu":
        names["training"].append("roofline")
    tasks = [
        Task(kind, shape, name, turn)
        for shape, kind, turn in itertools.product(shapes, names, range(rounds))
        for name in names[kind]
    ]
    return sorted(tasks, key=lambda task: task.method.endswith("compiled"))


def measure_in_new_process(
    task: Task, config: transformers.PreTrainedConfig, device_type: str, turns: Turns
) -> Figures:
    """Return what `measure` returns, or its fault, so that the other methods go on.

    The process is a fork of a server that has imported everything, because importing takes seconds. The server has not
    used CUDA, which would not work in a fork.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.methods"])
    try:
        with ProcessPoolExecutor(1, context) as process:
            return process.submit(measure, task, config, device_type, turns).result()
    except Exception as error:
        traceback.print_exception(error)
        return {"fault": (join_lines(error) or type(error).__name__)[:100]}


def measure(task: Task, config: transformers.PreTrainedConfig, device_type: str, turns: Turns) -> Figures:
    """Return the seconds of a batch, the median of a turn; on a GPU memory_gib, too."""
    device = prepare_device(device_type)
    if task.method == "roofline":
        return {"seconds": estimate_roofline(config)}
    with methods.METHODS[task.kind][task.method](workload.build_model(config, device)) as timed:
        step_seconds = timed(workload.draw_batches(turns.warm_up, seed=0))[-1]
        gc.collect()  # the warm-up's Trainer with its optimizer
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        steps = turns.warm_up + max(2, round(turns.seconds / step_seconds))
        seconds = timed(workload.draw_batches(steps, seed=1 + task.turn))[turns.warm_up :]
    memory = {"memory_gib": measure_peak_memory(device)} if device.type == "cuda" else {}
    return {"seconds": statistics.median(seconds)} | memory


def save(path: Path, machine: str, task: Task, figures: Figures) -> None:
    """Write a turn's figures into the machine's file, and update all ratios.

    A first turn removes the shape's figures of an earlier benchmark.
    """
    results: dict[str, Any] = {"machine": machine, "training": {}, "prediction": {}}
    if path.exists():
        results |= json.loads(path.read_text())
    results |= {"torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__}
    by_method = results[task.kind].setdefault(task.shape, {})
    if task.turn == 0 and task.method in by_method:  # the figures are of an earlier benchmark
        by_method.clear()
    earlier = by_method.get(task.method, {}).get("rounds", [])
    rounds = [*earlier, *[None] * (task.turn - len(earlier)), figures.get("seconds")]  # None where it failed
    if measured := [seconds for seconds in rounds if seconds is not None]:
        figures |= {"seconds": statistics.median(measured)}
    by_method[task.method] = figures | {"rounds": rounds}
    for method in by_method.values():
        pairs = zip(method.get("rounds", []), by_method.get("bert-cola", {}).get("rounds", []), strict=False)
        if ratios := [mine / pipeline for mine, pipeline in pairs if mine and pipeline]:
            method["ratio"] = statistics.median(ratios)
    files.write_text(path, json.dumps(results, indent=2) + "\n")


def estimate_roofline(config: transformers.PreTrainedConfig) -> float:
    """Return a lower bound for the seconds of a training step on this CPU: arithmetic and the optimizer's bytes only.

    For each weight AdamW reads four float32 numbers (weight, gradient, two moments) and writes three.
    """
    precision = choose_precision("auto", torch.device("cpu"))
    width, inner = config.hidden_size, config.intermediate_size
    operations, weights = count_work(config)
    left, right = (torch.randn(size, dtype=precision) for size in ((384, width), (width, inner)))
    multiplied = 2 * 384 * width * inner / measure_least(lambda: left @ right)  # operations a second
    numbers = torch.randn(2**26)
    target = torch.empty_like(numbers)
    copied = 2 * 4 * 2**26 / measure_least(lambda: target.copy_(numbers))  # bytes a second, reading and writing
    return operations / multiplied + 7 * 4 * weights / copied


def count_work(config: transformers.PreTrainedConfig) -> tuple[float, int]:
    """Return the operations of a step's linear layers, for 32 of CoLA's sentences, and the number of trained weights.

    Padding does not count. The last layer computes keys and values for all tokens, and the rest for the first tokens
    only, unless the head takes the mean of all tokens.
    """
    model = workload.build_model(config, torch.device("meta"))
    tokens = 363.4  # in 32 of CoLA's sentences, on average
    linears = sum(linear.weight.numel() for linear in families.list_encoder_linears(model))
    if getattr(config, "classifier_pooling", "cls") == "cls":
        spared = linears / config.num_hidden_layers - 2 * config.hidden_size**2  # all but keys and values
    else:
        spared = 0
    embedding: Any = model.get_input_embeddings()
    unused = embedding.num_embeddings - len(workload.VOCABULARY)
    weights = sum(weight.numel() for weight in model.parameters()) - unused * embedding.embedding_dim
    return 6 * (tokens * linears - (tokens - workload.BATCH_SIZE) * spared), weights


def measure_least(call: Callable[[], Any]) -> float:
    """Return the least seconds of a hundred calls."""
    return min(timeit.repeat(call, number=1, repeat=100))


def tabulate(results: dict[str, Any], kind: str) -> pd.DataFrame:
    """Return a row per method: the encoder's shape, the method, and its figures, such as seconds, ratio or fault."""
    rows = [
        {"encoder's shape": shape, "method": method} | figures
        for shape, by_method in results.get(kind, {}).items()
        for method, figures in by_method.items()
    ]
    return pd.DataFrame(rows).drop(columns="rounds", errors="ignore")


if __name__ == "__main__":
    run(main)
