"""The time and memory of a training step by batch size, sentence length and encoder.

`python -m benchmarks.sizes` varies a single size of the recipe's step: 32 sentences as long as CoLA's, and the shape of
bert-base-uncased with random weights. Then it measures how train.micro_batch_tokens bounds the memory. Writes
benchmarks/results/sizes.csv and docs/cost.png.
"""

import argparse
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm
from transformers import BertConfig

from benchmarks import methods, workload
from cola.core import files
from cola.core.errors import UserError, run
from cola.model.device import measure_peak_memory, prepare_device

ENCODERS = {  # layers and width of the BERT miniatures, bert-base and bert-large
    "tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768), "large": (24, 1024),
}  # fmt: skip
TOKENS = 11.36  # the mean length of CoLA's sentences
MICRO_BATCHES = (0, 2048, 512)  # tokens; 0: the whole batch
WARM_UP, STEPS = 2, 3
RESULTS = Path("benchmarks/results/sizes.csv")
PICTURE = Path("docs/cost.png")


class Sizes(NamedTuple):
    encoder: str = "base"
    sentences: int = 32  # in a batch
    length: float = 1  # times CoLA's sentences
    micro_batch_tokens: int = 0  # the whole batch


class Cost(NamedTuple):
    seconds: float
    peak_gib: float


PICTURES: dict[str, dict[float | str, Sizes]] = {
    "batch size, sentences": {size: Sizes(sentences=size) for size in (4, 8, 16, 32, 64, 128)},
    "mean sentence, tokens": {round(TOKENS * length, 1): Sizes(length=length) for length in (1, 2, 4, 8)},
    "encoder": {name: Sizes(name) for name in ENCODERS},
}
MEMORY = [  # the longest sentence of 10.8 times CoLA's has 508 tokens
    Sizes(length=length, micro_batch_tokens=tokens) for length in (1, 10.8) for tokens in MICRO_BATCHES
]


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.sizes").parse_args()
    cases = sorted({sizes for points in PICTURES.values() for sizes in points.values()} | set(MEMORY), key=str)
    measured = {}
    for sizes in tqdm(cases, "sizes"):
        # A new process, because a process's peak memory never falls.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            try:
                measured[sizes] = process.submit(measure, sizes).result()
            except BrokenProcessPool:
                raise UserError(f"{sizes} needs more memory: end other programs, or measure elsewhere") from None
    table = pd.DataFrame([{**sizes._asdict(), **cost._asdict()} for sizes, cost in measured.items()]).round(4)
    print(table.to_string(index=False))
    files.write_csv(RESULTS, table.assign(machine=workload.describe_machine_and_precision(prepare_device("auto"))))
    draw(measured)


def read_results() -> dict[Sizes, Cost]:
    rows = files.read_csv(RESULTS).to_dict("records")
    return {Sizes(*(row[name] for name in Sizes._fields)): Cost(row["seconds"], row["peak_gib"]) for row in rows}


def measure(sizes: Sizes) -> Cost:
    """Return the median of a step's seconds, and the peak memory of this process."""
    device = prepare_device("auto")
    layers, width = ENCODERS[sizes.encoder]
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width
    )
    batches = workload.draw_batches(WARM_UP + STEPS, 0, sizes.sentences, sizes.length)
    model = workload.build_model(config, device)
    with methods.train_fast(model, micro_batch_tokens=sizes.micro_batch_tokens or None) as train:
        return Cost(statistics.median(train(batches)[WARM_UP:]), measure_peak_memory(device))


def draw(measured: dict[Sizes, Cost]) -> None:
    from matplotlib.figure import Figure  # may be absent on a machine with a GPU

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (quantity, points) in zip(figure.subplots(1, len(PICTURES), sharey=True), PICTURES.items(), strict=True):
        axes.plot(points.keys(), [1e3 * measured[sizes].seconds for sizes in points.values()], marker="o")
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
