"""How fast this trains and predicts beside the tutorial's loop and transformers' Trainer, on this machine.

`make bench` runs them in turn, round after round, each in a process of its own that sleeps while another's turn lasts,
and each on the same batches. It prints medians and ratios (the median of the rounds' ratios), and writes them to
benchmarks/results/<machine>.json, with the roofline: the time of a step's arithmetic at the rate that matrices are
multiplied here, plus the time that the optimizer's bytes take at the rate that memory is copied.
"""

import json
import multiprocessing
import re
import statistics
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch
from tqdm import tqdm
from transformers import PreTrainedConfig

from benchmarks import table, workload
from cola.core.errors import UserError, run
from cola.model import families
from cola.model.device import choose_precision, describe_machine, prepare_device

ROUNDS = 3
WARM_UP = 3.0  # seconds: in them threads see that no other method computes any more (cores.give_way)
TURN, AT_LEAST = 5.0, 2  # seconds that a method's turn lasts after that, and batches in it
RESULTS = Path("benchmarks/results")


def main() -> None:
    device = prepare_device("auto")
    machine = describe_machine(device)
    results = {kind: {shape: compare(kind, shape) for shape in workload.SHAPES} for kind in ("training", "prediction")}
    for shape, config in workload.SHAPES.items():
        results["training"][shape]["roofline"] = {"seconds": roofline(config, device)}
    path = results_path(machine)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "torch": torch.__version__} | results, indent=2) + "\n")
    show(json.loads(path.read_text()))
    print(f"{path} has the figures of each round")


def results_path(machine: str) -> Path:
    """'NVIDIA H200' -> benchmarks/results/nvidia-h200.json"""
    return RESULTS / f"{re.sub('[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"


def compare(kind: str, shape: str) -> dict[str, Any]:
    """Seconds a batch of each method, and the ratio to bert-cola's; by round, and their medians."""
    from benchmarks import methods

    context = multiprocessing.get_context("spawn")
    workers = {}
    for method in methods.METHODS[kind]:
        here, there = context.Pipe()
        process = context.Process(target=work, args=(kind, shape, method, there), daemon=True)
        process.start()
        there.close()
        here.recv()  # it is ready, and sleeps
        workers[method] = (process, here)
    if (busy := psutil.cpu_percent(1.0)) > 15:
        raise UserError(
            f"other work takes {busy:.0f}% of this machine: no timing would be worth anything; end it first"
        )
    rounds: dict[str, list[float]] = {method: [] for method in workers}
    for turn in tqdm(range(ROUNDS), f"{shape}, {kind}", unit=" rounds"):
        for method, (_, pipe) in workers.items():
            pipe.send(turn)
            rounds[method].append(pipe.recv())
    for process, _ in workers.values():
        process.kill()
    return {
        method: {
            "seconds": statistics.median(seconds),
            "ratio": statistics.median(a / b for a, b in zip(seconds, rounds["bert-cola"], strict=True)),
            "rounds": seconds,
        }
        for method, seconds in rounds.items()
    }


def work(kind: str, shape: str, method: str, pipe: Connection) -> None:
    """A worker: builds the model, then takes its turn whenever it is told to, and answers with the median seconds.

    It ends when the other end of its pipe is closed.
    """
    from benchmarks import methods

    with (
        suppress(EOFError),
        methods.METHODS[kind][method](workload.model(shape, prepare_device("auto"))) as timed,
    ):
        pipe.send("ready")
        while True:
            seed = pipe.recv()
            warm, started = 0.0, time.monotonic()
            while not warm or time.monotonic() - started < WARM_UP:
                warm = timed(workload.batches(2, seed))[-1]
            count = max(AT_LEAST, round(TURN / warm))
            pipe.send(statistics.median(timed(workload.batches(count, seed))))


def roofline(config: PreTrainedConfig, device: torch.device) -> float:
    """The least seconds that a training step could take on this device, were there nothing but sums and bytes.

    The sums are those of the linear layers, forward and backward, for a batch's real tokens; of the last layer, keys
    and values for all tokens and the rest for each sentence's first, unless the head takes the mean of all. AdamW reads
    four float32 numbers for each weight (itself, gradient, two moments) and writes three.
    """
    precision = choose_precision("auto", device)
    width, inner = config.hidden_size, config.intermediate_size
    sums, weights = work_of_a_step(config)
    left, right = (torch.randn(shape, device=device, dtype=precision) for shape in ((384, width), (width, inner)))
    multiplied = 2 * 384 * width * inner / best(lambda: left @ right, device)  # a second
    numbers = torch.randn(2**26, device=device)
    target = torch.empty_like(numbers)
    copied = 2 * 4 * 2**26 / best(lambda: target.copy_(numbers), device)  # bytes a second, read and written
    print(f"matrices: {multiplied / 1e12:.2f} TFLOP/s in {precision}; memory: {copied / 1e9:.0f} GB/s")
    return sums / multiplied + 7 * 4 * weights / copied


def work_of_a_step(config: PreTrainedConfig) -> tuple[float, int]:
    """(sums in linear layers, forward and backward, of 32 of CoLA's sentences; weights that AdamW moves)."""
    model = workload.model(config, torch.device("meta"))
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


def best(call: Any, device: torch.device) -> float:
    """Seconds that a call takes when all is warm and nothing disturbs it: the least within five seconds."""
    seconds: list[float] = []
    while sum(seconds) < 5:
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def show(results: dict[str, Any]) -> None:
    for kind in ("training", "prediction"):
        rows = []
        for shape, by_method in results[kind].items():
            for method, found in by_method.items():
                ratio = found["seconds"] / by_method["bert-cola"]["seconds"] if method == "roofline" else found["ratio"]
                rows.append((shape, method, f"{found['seconds']:.4f}", f"{ratio:.2f}"))
        headings = "encoder's shape", "method", "seconds", "ratio to bert-cola"
        table.show(f"{kind}, 32 sentences: {results['machine']}", headings, rows, words=2)


if __name__ == "__main__":
    run(main)
