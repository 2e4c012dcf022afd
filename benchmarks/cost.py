"""What a training step costs as batches, sentences and encoders grow. Draws docs/cost.png.

`python -m benchmarks.cost` varies one size at a time around the recipe's (32 sentences as long as CoLA's,
bert-base-uncased's shape, random weights). A training's cost is that of a step, times sentences / batch size * epochs.
"""

import statistics
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm
from transformers import BertConfig

from benchmarks import methods, workload
from cola.core.errors import run
from cola.model.device import prepare_device

BATCH_SIZES = [4, 8, 16, 32, 64, 128]
LENGTHS = [1, 2, 4, 8]  # times CoLA's
ENCODERS = {  # layers and width, of the BERT miniatures, bert-base and bert-large
    "tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768), "large": (24, 1024),
}  # fmt: skip
STEPS, WARM_UP = 5, 3
PICTURE = Path("docs/cost.png")


def main() -> None:
    runs: list[tuple[str, float | str, int, float, str]]
    runs = [("batch size, sentences", size, size, 1, "base") for size in BATCH_SIZES]
    runs += [("mean sentence, tokens", round(11.36 * scale, 1), 32, scale, "base") for scale in LENGTHS]
    runs += [("encoder", name, 32, 1, name) for name in ENCODERS]
    found: dict[str, list[tuple[float | str, float]]] = {}
    for what, value, size, scale, encoder in tqdm(runs, "sizes"):
        found.setdefault(what, []).append((value, seconds(size, scale, *ENCODERS[encoder])))
    for what, points in found.items():
        print(f"{what}: " + ", ".join(f"{value}: {1e3 * step:.0f} ms" for value, step in points))
    draw(found).savefig(PICTURE, dpi=100)


def seconds(size: int, scale: float, layers: int, width: int) -> float:
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width
    )
    with methods.train_fast(workload.model(config, prepare_device("auto"))) as train:
        return statistics.median(train(workload.batches(WARM_UP + STEPS, 0, size, scale))[WARM_UP:])


def draw(found: dict[str, list[tuple[float | str, float]]]) -> Figure:
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (what, points) in zip(figure.subplots(1, len(found), sharey=True), found.items(), strict=True):
        values, steps = zip(*points, strict=True)
        axes.plot(values, [1e3 * step for step in steps], marker="o")
        axes.set_yscale("log")
        if not isinstance(values[0], str):
            axes.set_xscale("log", base=2)
            axes.set_xticks(values, [str(value) for value in values])
        axes.set_xlabel(what)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("ms a step")
    return figure


if __name__ == "__main__":
    run(main)
