"""The time and memory of a training step by batch size, sentence length and encoder. Draws docs/cost.png.

`python -m benchmarks.sizes` varies a single size of the recipe's step: 32 sentences as long as CoLA's, and the shape of
bert-base-uncased with random weights. Then it measures how train.micro_batch_tokens bounds the memory. A training takes
the time of a step, times sentences / batch size * epochs.
"""

import argparse
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm
from transformers import BertConfig

from benchmarks import methods, workload
from cola.core.errors import run
from cola.model.device import describe_machine, measure_peak_memory, prepare_device

ENCODERS = {  # layers and width of the BERT miniatures, bert-base and bert-large
    "tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768), "large": (24, 1024),
}  # fmt: skip
TOKENS = 11.36  # the mean length of CoLA's sentences
WARM_UP, STEPS = 2, 3
PICTURE = Path("docs/cost.png")


class Sizes(NamedTuple):
    encoder: str = "base"
    sentences: int = 32  # in a batch
    length: float = 1  # times CoLA's sentences
    micro_batch_tokens: int | None = None


COST: dict[str, dict[float | str, Sizes]] = {
    "batch size, sentences": {size: Sizes(sentences=size) for size in (4, 8, 16, 32, 64, 128)},
    "mean sentence, tokens": {round(TOKENS * length, 1): Sizes(length=length) for length in (1, 2, 4, 8)},
    "encoder": {name: Sizes(name) for name in ENCODERS},
}
MEMORY = [  # the longest sentence of 10.8 times CoLA's has 508 tokens
    Sizes(name, length=length, micro_batch_tokens=tokens)
    for name in ("base", "large")
    for length in (1, 10.8)
    for tokens in (None, 2048, 512)
]


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.sizes").parse_args()
    cases = sorted({sizes for points in COST.values() for sizes in points.values()} | set(MEMORY), key=str)
    # Every measurement has a new process, because a process's peak memory never falls.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        measured = dict(zip(cases, tqdm(processes.map(measure, cases), "sizes", len(cases)), strict=True))
    print(f"a step: {describe_machine(prepare_device('auto'))}")
    for quantity, points in COST.items():
        print(f"{quantity}: " + ", ".join(f"{size}: {1e3 * measured[case][0]:.0f} ms" for size, case in points.items()))
    rows = [
        {
            "encoder": sizes.encoder,
            "tokens a sentence": f"{sizes.length * TOKENS:.0f}",
            "tokens at once": sizes.micro_batch_tokens or "whole batch",
            "peak, GiB": f"{measured[sizes][1]:.1f}",
            "seconds a step": f"{measured[sizes][0]:.1f}",
        }
        for sizes in MEMORY
    ]
    print(pd.DataFrame(rows).to_string(index=False))
    draw({quantity: {size: measured[case][0] for size, case in points.items()} for quantity, points in COST.items()})


def measure(sizes: Sizes) -> tuple[float, float]:
    """Return the median seconds of a step, and this process's peak memory in GiB."""
    device = prepare_device("auto")
    layers, width = ENCODERS[sizes.encoder]
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width
    )
    batches = workload.draw_batches(WARM_UP + STEPS, 0, sizes.sentences, sizes.length)
    model = workload.build_model(config, device)
    with methods.train_fast(model, micro_batch_tokens=sizes.micro_batch_tokens) as train:
        return statistics.median(train(batches)[WARM_UP:]), measure_peak_memory(device)


def draw(seconds: dict[str, dict[float | str, float]]) -> None:
    from matplotlib.figure import Figure  # may be absent on a machine with a GPU

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (quantity, points) in zip(figure.subplots(1, len(seconds), sharey=True), seconds.items(), strict=True):
        axes.plot(points.keys(), [1e3 * step for step in points.values()], marker="o")
        axes.set_yscale("log")
        if quantity != "encoder":
            axes.set_xscale("log", base=2)
            axes.set_xticks(list(points), [str(size) for size in points])
        axes.set_xlabel(quantity)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("ms a step")
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    run(main)
