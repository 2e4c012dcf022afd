"""The distance of a step's loss and gradients from those of transformers' padded, eager model in float32.

`python -m benchmarks.proofs.step` measures this training in float32, where only the order of sums differs, and in
bfloat16. Autocast on the padded model shows the error of bfloat16 itself. Dropout is off, weights are random. Writes
benchmarks/results/step.csv.
"""

import copy
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import PreTrainedModel

from benchmarks import tutorial, workload
from cola.core import files
from cola.core.errors import run
from cola.model import attention, batching, classifier
from cola.model.device import autocast, choose_precision, describe_machine, prepare_device

RESULTS = Path("benchmarks/results/step.csv")

Step = tuple[float, Tensor]  # loss, and all gradients in a vector, on the CPU


def main() -> None:
    device = prepare_device("auto")
    machine, low = describe_machine(device), choose_precision("auto", device)
    methods = [("bert-cola", torch.float32, step_packed)]
    if low != torch.float32:
        methods += [("bert-cola", low, step_packed), ("autocast, padded and eager", low, step_padded)]
    rows = []
    (batch,) = workload.draw_batches(1, seed=0)
    for shape in tqdm(workload.SHAPES, "shapes"):
        model = workload.build_model(shape, device).eval()
        reference = step_padded(model, batch, torch.float32)
        for name, precision, take_step in methods:
            loss, gradient = measure_deviation(take_step(model, batch, precision), reference)
            rows.append((machine, shape, str(precision).removeprefix("torch."), name, f"{loss:.1e}", f"{gradient:.1e}"))
    table = pd.DataFrame(rows, columns=["machine", "encoder", "precision", "method", "loss", "gradient"])
    print(f"distance from float32, padded and eager: {machine}")
    print(table.drop(columns="machine").to_string(index=False))
    files.write_csv(RESULTS, table)


def step_packed(model: PreTrainedModel, batch: workload.Batch, precision: torch.dtype) -> Step:
    """Return a step of this pipeline."""
    model = copy.deepcopy(model)
    model.set_attn_implementation(attention.NAME)
    input_ids, labels = batch
    logits = classifier.compute_logits(model, batching.pack(input_ids), precision)
    return _backward(model, cross_entropy(logits, labels.to(model.device)))


def step_padded(model: PreTrainedModel, batch: workload.Batch, precision: torch.dtype) -> Step:
    """Return a step of transformers' model; in bfloat16 with autocast."""
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    inputs = tutorial.collate(*batch, length=1)
    with autocast(model.device, precision):
        loss = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()}).loss
    return _backward(model, loss)


def _backward(model: PreTrainedModel, loss: Tensor) -> Step:
    loss.backward()
    gradients = [weights.grad.flatten() for weights in model.parameters() if weights.grad is not None]
    return loss.item(), torch.cat(gradients).cpu()


def measure_deviation(step: Step, reference: Step) -> tuple[float, float]:
    """Return the relative differences of the loss and of the whole gradient."""
    loss = abs(step[0] - reference[0]) / reference[0]
    return loss, ((step[1] - reference[1]).norm() / reference[1].norm()).item()


if __name__ == "__main__":
    run(main)
