"""Does each step of this training go where the tutorial's goes? 200 steps of both, without dropout, in float32.

`python -m benchmarks.proofs.trajectory` trains the encoder in models/pretrained on the corpus in data/tokenized with
the settings of params.yaml, both methods from the same weights on the same batches, and compares losses and final
weights.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from benchmarks import tutorial
from cola.core import params, paths
from cola.core.errors import run
from cola.data import ragged
from cola.fetch.tables import COLA_LABELS
from cola.model import classifier
from cola.model.device import describe_machine, prepare_device
from cola.train import history, loop
from cola.train.checkpoint import Checkpointer

STEPS = 200


def main() -> None:
    settings = params.load(paths.PARAMS)
    recipe = settings.train.model_copy(update={"max_steps": STEPS})
    device = prepare_device(settings.device)
    train = ragged.read_sentences(paths.TOKENIZED / "train.parquet")
    # The validation is of no interest, so one sentence will do.
    one = ragged.Sentences(ragged.RaggedArray.from_rows(train.input_ids[:1]), train.labels[:1])

    start, reference, model = (without_dropout(device, settings.seed) for _ in range(3))
    reference.set_attn_implementation("eager")
    steps = tutorial.fit(reference, train.input_ids, torch.from_numpy(train.labels), recipe, settings.seed)
    expected = [next(steps) for _ in range(STEPS)]
    splits = {"train": train, "validation": one}
    with loop.prepare(model, splits, recipe, torch.float32, settings.seed) as training:
        losses = history.step_table(loop.fit(training, Checkpointer()))["loss"]

    print(f"{STEPS} steps, float32, no dropout, {describe_machine(device)}")
    largest = max(abs(losses - expected))
    print(f"losses: {expected[0]:.4f} at first, {expected[-1]:.4f} at last; at most {largest:.1e} apart")
    travelled, apart = distance(start, reference), distance(reference, model)
    print(f"weights: travelled {travelled:.4f}, apart {apart:.1e}: {apart / travelled:.1e} of the distance")


def without_dropout(device: torch.device, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    model = classifier.load(paths.PRETRAINED, device, COLA_LABELS)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def distance(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return sum((a - b).double().square().sum().item() for a, b in pairs) ** 0.5


if __name__ == "__main__":
    run(main)
