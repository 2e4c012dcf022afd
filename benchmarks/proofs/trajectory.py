"""The losses and final weights of 200 steps of the tutorial's loop and of this training, in float32 without dropout.

`python -m benchmarks.proofs.trajectory` trains the encoder in models/pretrained on the corpus in data/tokenized with
the settings of params.yaml. Both methods start from the same weights and take the same batches. Writes
benchmarks/results/trajectory.csv.
"""

from itertools import islice
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel

from benchmarks import tutorial
from cola.core import files, params, paths
from cola.core.errors import run
from cola.data import tables
from cola.fetch.tables import COLA_LABELS
from cola.model import classifier
from cola.model.device import describe_machine, prepare_device
from cola.train import history, loop
from cola.train.checkpoint import Checkpointer

STEPS = 200
RESULTS = Path("benchmarks/results/trajectory.csv")


def main() -> None:
    settings = params.load(paths.PARAMS)
    recipe = settings.train.model_copy(update={"max_steps": STEPS})
    device = prepare_device(settings.device)
    train = tables.read_sentences(paths.TOKENIZED / "train.parquet")
    # The validation does not matter here, so it has a single sentence.
    validation = tables.Sentences(train.input_ids[:1], train.labels[:1])

    start, reference, model = (load_without_dropout(device, settings.seed) for _ in range(3))
    reference.set_attn_implementation("eager")
    steps = islice(tutorial.fit(reference, train, recipe, settings.seed), STEPS)
    expected = list(tqdm(steps, "the tutorial's loop", STEPS))
    splits = {"train": train, "validation": validation}
    with loop.prepare(model, splits, recipe, torch.float32, settings.seed) as training:
        losses = history.tabulate_steps(loop.fit(training, Checkpointer()))["loss"]

    results = {
        "machine": describe_machine(device),
        "first_loss": f"{expected[0]:.4f}",
        "last_loss": f"{expected[-1]:.4f}",
        "largest_difference": f"{max(abs(losses - expected)):.1e}",
        "weights_travelled": f"{measure_distance(start, reference):.2f}",
        "weights_apart": f"{measure_distance(reference, model):.1e}",
    }
    print(f"{STEPS} steps, float32, no dropout", *(f"{name}: {value}" for name, value in results.items()), sep="\n")
    files.write_csv(RESULTS, pd.DataFrame([results]))


def load_without_dropout(device: torch.device, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    model = classifier.load(paths.PRETRAINED, device, COLA_LABELS)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def measure_distance(model: nn.Module, reference: nn.Module) -> float:
    """Return the Euclidean distance between two models' weights."""
    pairs = zip(model.parameters(), reference.parameters(), strict=True)
    return sum((weights - expected).double().square().sum().item() for weights, expected in pairs) ** 0.5


if __name__ == "__main__":
    run(main)
