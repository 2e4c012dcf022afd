"""How fast this trains and predicts beside the tutorial's loop and transformers' Trainer, on this machine.

`make bench` runs every method on the same batches, in a process of its own. It prints medians and ratios to bert-cola.
They are in benchmarks/results/<machine>.json as soon as they are known: a run that is cut short leaves what it had.

On a CPU the methods take turns, because other work comes and goes; a ratio is the median of the rounds' ratios. Beside
them stands the roofline: the time of a step's arithmetic at the rate at which this machine multiplies matrices, plus
the time of the optimizer's bytes at the rate at which it copies memory.

On a GPU (`python -m benchmarks.speed --device cuda bert-base-uncased`) the methods run one after another, and
torch.compile, which takes minutes, comes last. The figures there include the GPU's memory.
Trainer predicts without cuDNN's attention (methods.predict_with_trainer). Neither dvc nor mlflow is needed.
"""

import argparse
import gc
import json
import multiprocessing
import os
import re
import statistics
import timeit
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import psutil
import torch
import transformers
from tqdm import tqdm

from benchmarks import methods, workload
from cola.core import files
from cola.core.errors import UserError, run
from cola.model import families
from cola.model.device import choose_precision, describe_machine, peak_memory, prepare_device

RESULTS = Path("benchmarks/results")
Figures = dict[str, Any]  # of a method; {"fault": a line} where it failed
_method = ExitStack()  # of the process that measures a method
_built: list[tuple[methods.Timed, float]] = []  # the same, once it has built the model: see `build`


class Turns(NamedTuple):
    """How long a method is measured."""

    rounds: int
    warm_up: int  # steps before the timed ones of a turn
    seconds: float  # that the timed steps of a turn take


TURNS = {"cpu": Turns(rounds=3, warm_up=2, seconds=5.0), "cuda": Turns(rounds=1, warm_up=20, seconds=3.0)}


class Group(NamedTuple):
    """Methods that take turns."""

    kind: str  # training or prediction
    shape: str  # a key of workload.SHAPES
    methods: list[str]


class Task(NamedTuple):
    """What a process measures."""

    kind: str
    method: str
    shape: transformers.PreTrainedConfig
    device: str  # its type
    turns: Turns


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("shapes", nargs="*", help=f"some of {', '.join(workload.SHAPES)}; all by default")
    arguments = parser.parse_args()
    shapes = arguments.shapes or list(workload.SHAPES)
    if unknown := set(shapes) - set(workload.SHAPES):
        parser.error(f"{min(unknown)} is no shape; choose from {', '.join(workload.SHAPES)}")
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine has no CUDA device; leave the option out to measure the CPU")
    device = prepare_device(arguments.device)
    turns = TURNS["cuda" if device.type == "cuda" else "cpu"]
    path = RESULTS / f"{name_file(describe_machine(device))}.json"
    for group in tqdm(list_groups(device.type, shapes), "groups of methods"):
        save(path, device, group, compare(group, device, turns))
    for shape in shapes if device.type == "cpu" else []:
        save(path, device, Group("training", shape, []), {"roofline": {"seconds": estimate_roofline(shape)}})
    results = json.loads(path.read_text())
    for kind in methods.METHODS:
        print(f"\n{kind}, {workload.BATCH_SIZE} sentences a step, ratio to bert-cola: {results['machine']}")
        print(tabulate(results, kind).to_string(index=False, na_rep="", float_format="{:.4g}".format))
    print(f"{path} has the figures of every round")


def name_file(machine: str) -> str:
    """'NVIDIA H200' -> 'nvidia-h200'"""
    return re.sub("[^a-z0-9]+", "-", machine.lower()).strip("-")


def list_groups(device_type: str, shapes: Sequence[str]) -> list[Group]:
    """Return what is measured, in order. On a GPU every method is a group: it is saved before the next one begins."""
    gpu = device_type == "cuda"
    kinds = {
        kind: [method for method in by_method if gpu or method not in methods.ONLY_ON_A_GPU]
        for kind, by_method in methods.METHODS.items()
    }
    if not gpu:
        return [Group(kind, shape, names) for shape in shapes for kind, names in kinds.items()]
    groups = [Group(kind, shape, [name]) for shape in shapes for kind, names in kinds.items() for name in names]
    return sorted(groups, key=lambda group: group.methods[0].endswith("compiled"))


def compare(group: Group, device: torch.device, turns: Turns) -> dict[str, Figures]:
    """Return by method the seconds of a batch, as median and rounds; on a GPU memory_gib, too; or its fault.

    The processes are forked from a server that has imported everything and used nothing: importing again takes seconds,
    and CUDA cannot be used in the fork of a process that has used it. A process sleeps between its turns.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.speed"])
    shape = workload.SHAPES[group.shape]
    figures: dict[str, list[Figures]] = {method: [] for method in group.methods}
    if device.type != "cuda":
        check_idle()
    with ExitStack() as stack:
        processes = {method: stack.enter_context(ProcessPoolExecutor(1, context)) for method in group.methods}
        for turn in range(turns.rounds):
            for method, process in processes.items():
                if not has_fault(figures[method]):
                    task = Task(group.kind, method, shape, device.type, turns)
                    figures[method].append(call_in(process, take_turn, task, turn))
    return {method: rounds[-1] if has_fault(rounds) else summarize(rounds) for method, rounds in figures.items()}


def has_fault(rounds: Sequence[Figures]) -> bool:
    return any("fault" in figures for figures in rounds)


def call_in(process: ProcessPoolExecutor, function: Callable[..., Figures], *arguments: Any) -> Figures:
    """Return what the function returns in that process; or its fault, which costs no other method its figures."""
    try:
        return process.submit(function, *arguments).result()
    except Exception as error:
        traceback.print_exception(error)
        return {"fault": f"{str(error).strip() or type(error).__name__}".splitlines()[0][:100]}


def summarize(rounds: Sequence[Figures]) -> Figures:
    seconds = [figures["seconds"] for figures in rounds]
    return rounds[-1] | {"seconds": statistics.median(seconds), "rounds": seconds}


def check_idle() -> None:
    if (busy := psutil.cpu_percent(1.0)) > 15:
        raise UserError(f"other programs take {busy:.0f}% of this machine, which spoils every timing: end them first")


def build(task: Task) -> tuple[methods.Timed, float]:
    """Build the model in this process. Return what times its steps, and the seconds of a step."""
    method = methods.METHODS[task.kind][task.method]
    timed = _method.enter_context(method(workload.build_model(task.shape, prepare_device(task.device))))
    return timed, timed(workload.draw_batches(task.turns.warm_up, seed=0))[-1]


def take_turn(task: Task, turn: int) -> Figures:
    """Return the figures of a turn. The process builds its model in the first."""
    if not _built:
        _built.append(build(task))
    (timed, step_seconds), device = _built[0], torch.device(task.device)
    gc.collect()  # Trainer's last run, above all its optimizer
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    warm_up, steps = task.turns.warm_up, max(2, round(task.turns.seconds / step_seconds))
    seconds = timed(workload.draw_batches(warm_up + steps, seed=1 + turn))[warm_up:]
    figures = {"seconds": statistics.median(seconds)}
    if device.type == "cuda":
        figures["memory_gib"] = peak_memory(device)
    return figures


def save(path: Path, device: torch.device, group: Group, by_method: dict[str, Figures]) -> None:
    """Put figures into the machine's file, in place of those methods' earlier ones; and every method's ratio."""
    results: dict[str, Any] = {"machine": describe_machine(device), "training": {}, "prediction": {}}
    if path.exists():
        results |= json.loads(path.read_text())
    results |= {"torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__}
    figures = results.setdefault(group.kind, {}).setdefault(group.shape, {})
    figures |= by_method
    ours = figures.get("bert-cola", {}).get("rounds", [])
    for method in figures.values():
        if ours and "rounds" in method:
            method["ratio"] = statistics.median(a / b for a, b in zip(method["rounds"], ours, strict=False))
        elif ours and "seconds" in method:  # the roofline
            method["ratio"] = method["seconds"] / statistics.median(ours)
    files.write_text(path, json.dumps(results, indent=2) + "\n")


def estimate_roofline(shape: str) -> float:
    """Return the least seconds that a training step of this shape could take on this CPU: sums and bytes, nothing else.

    AdamW reads four float32 numbers for each weight (itself, gradient, two moments) and writes three.
    """
    config, precision = workload.SHAPES[shape], choose_precision("auto", torch.device("cpu"))
    width, inner = config.hidden_size, config.intermediate_size
    sums, weights = count_work(config)
    left, right = (torch.randn(size, dtype=precision) for size in ((384, width), (width, inner)))
    multiplied = 2 * 384 * width * inner / measure_least(lambda: left @ right)  # a second
    numbers = torch.randn(2**26)
    target = torch.empty_like(numbers)
    copied = 2 * 4 * 2**26 / measure_least(lambda: target.copy_(numbers))  # bytes a second, read and written
    print(f"matrices: {multiplied / 1e12:.2f} TFLOP/s in {precision}; memory: {copied / 1e9:.0f} GB/s")
    return sums / multiplied + 7 * 4 * weights / copied


def count_work(config: transformers.PreTrainedConfig) -> tuple[float, int]:
    """Return the sums of a step in linear layers, for 32 of CoLA's sentences, and the weights that AdamW moves.

    Padding does not count. The last layer computes keys and values for all tokens, and the rest for the first token of
    every sentence, unless the head takes the mean of all tokens.
    """
    model = workload.build_model(config, torch.device("meta"))
    tokens = 363.4  # in 32 of CoLA's sentences, on average
    linears = sum(linear.weight.numel() for linear in families.encoder_linears(model))
    if getattr(config, "classifier_pooling", "cls") == "cls":
        spared = linears / config.num_hidden_layers - 2 * config.hidden_size**2  # all but keys and values
    else:
        spared = 0
    embedding: Any = model.get_input_embeddings()
    unused = embedding.num_embeddings - len(workload.VOCABULARY)
    weights = sum(weight.numel() for weight in model.parameters()) - unused * embedding.embedding_dim
    return 6 * (tokens * linears - (tokens - workload.BATCH_SIZE) * spared), weights


def measure_least(call: Callable[[], Any]) -> float:
    """Return the least seconds of a hundred calls: warm and undisturbed."""
    return min(timeit.repeat(call, number=1, repeat=100))


def tabulate(results: dict[str, Any], kind: str) -> pd.DataFrame:
    """Return a row for every method: the encoder's shape, the method, its figures, such as seconds, ratio or fault."""
    rows = [
        {"encoder's shape": shape, "method": method} | figures
        for shape, by_method in results.get(kind, {}).items()
        for method, figures in by_method.items()
    ]
    return pd.DataFrame(rows).drop(columns="rounds", errors="ignore")


if __name__ == "__main__":
    run(main)
