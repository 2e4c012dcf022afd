"""A test of equivalence: seeds of the tutorial's loop and of the pipeline's training end with equal results.

`python -m benchmarks.proofs.outcome` trains the encoder in models/pretrained on the corpus in data/tokenized with the
settings of params.yaml. Every training appends its row to benchmarks/results/outcome.csv. A training with a row is not
repeated.

Here the tutorial's loop pads to the longest sentence of a batch instead of 64 tokens, which is three times as fast.
Padding is masked, so it changes nothing else.
"""

import math
from contextlib import nullcontext
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import tutorial
from cola.core import params, paths
from cola.core.errors import run
from cola.data import tables
from cola.fetch.tables import COLA_LABELS
from cola.model import classifier, metrics, prediction
from cola.model.device import choose_precision, prepare_device
from cola.train import loop
from cola.train.checkpoint import Checkpointer

METHODS, SEEDS = ("tutorial", "bert-cola", "bert-cola, float16"), range(10)
RESULTS = Path("benchmarks/results/outcome.csv")
# Smaller differences of means count as equal, in standard deviations of the tutorial's seeds. Ten seeds of identical
# methods pass with a probability of 0.9; a narrower margin needs more seeds.
MARGIN = 1.5

aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}


class MultiplyInFloat32(TorchDispatchMode):
    """Multiplies float16 matrices in float32 and rounds the product, as units for float16 do.

    PyTorch's own products take 13 times as long on a CPU without such units.
    """

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function in PRODUCTS and arguments[0].dtype == torch.float16:
            wide = (argument.float() if isinstance(argument, Tensor) else argument for argument in arguments)
            return function(*wide, **options or {}).half()
        return function(*arguments, **options or {})


def main() -> None:
    if RESULTS.exists():
        print(
            f"the runs in {RESULTS} are not repeated: remove it to train them with the workspace's files and settings"
        )
    for method, seed in product(METHODS, SEEDS):
        results = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=["method", "seed"])
        if not (results["method"].eq(method) & results["seed"].eq(seed)).any():
            row = pd.DataFrame([train_seed(method, seed)])
            print(row.to_string(index=False), flush=True)
            row.to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False)
    for method in METHODS[1:]:
        print(compare_with_tutorial(pd.read_csv(RESULTS), method).to_string(index=False))


def train_seed(method: str, seed: int) -> dict[str, float | str]:
    """Train; return the row: every epoch's losses, and the MCC of validation and test at the end."""
    settings = params.load(paths.PARAMS)
    recipe, padded = settings.train, method == "tutorial"
    sentences = {split: tables.read_sentences(paths.TOKENIZED / f"{split}.parquet") for split in tables.SPLITS}
    device = prepare_device(settings.device)
    names = {"tutorial": "float32", "bert-cola, float16": "float16"}
    precision = choose_precision(names.get(method, settings.precision), device)
    emulated = precision == torch.float16 and device.type == "cpu"
    products = MultiplyInFloat32() if emulated else nullcontext()  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    model = classifier.load(paths.PRETRAINED, device, COLA_LABELS)
    row: dict[str, float | str] = {"method": method, "seed": seed}

    def score_split(split: str) -> tuple[float, float]:  # loss and MCC
        with products:
            logits = prediction.predict_logits(model, sentences[split].input_ids, precision, padded=padded)
        labels = sentences[split].labels
        loss = cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
        return loss, metrics.compute_mcc(labels, logits.argmax(axis=1))

    if method == "tutorial":
        model.set_attn_implementation("eager")
        steps = tutorial.fit(model, sentences["train"], recipe, seed, length=0)
        steps_per_epoch = math.ceil(len(sentences["train"].labels) / recipe.batch_size)
        for number in range(1, recipe.epochs + 1):
            row[f"training_loss_{number}"] = float(np.mean(list(islice(steps, steps_per_epoch))))
            row[f"validation_loss_{number}"], _ = score_split("validation")
    else:
        with products, loop.prepare(model, sentences, recipe, precision, seed) as training:
            epochs = loop.fit(training, Checkpointer())
        for epoch in epochs:
            row[f"training_loss_{epoch.epoch}"] = epoch.training_loss
            row[f"validation_loss_{epoch.epoch}"] = epoch.validation_loss
    row["validation_mcc"], row["test_mcc"] = score_split("validation")[1], score_split("test")[1]
    return row


def compare_with_tutorial(results: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return a row of text for each figure: both means, their difference, and whether they are equal."""
    rows = []
    for column in results.columns[2:]:
        reference, pipeline = (results.loc[results["method"] == name, column] for name in ("tutorial", method))
        margin = MARGIN * reference.std()
        difference, half, p = check_equivalence(pipeline, reference, margin)
        scores = [f"{mccs.mean():.3f} ({mccs.std():.3f})" for mccs in (reference, pipeline)]
        equal = f"{'yes' if p < 0.05 else 'not shown'}, p = {p:.2g}"
        rows.append((column, *scores, f"{difference:+.3f} ± {half:.3f}", f"{margin:.3f}", equal))
    return pd.DataFrame(
        rows, columns=["", "the tutorial's loop", method, "difference, 90% interval", "margin", "equal"]
    )


def check_equivalence(pipeline: pd.Series, reference: pd.Series, margin: float) -> tuple[float, float, float]:
    """Return the difference of two means, half the width of its 90% interval, and p of two one-sided Welch t-tests.

    If p is below 0.05, the interval lies within the margin, and the means count as equal.
    """
    welch = partial(stats.ttest_ind, equal_var=False)
    low, high = welch(pipeline, reference).confidence_interval(0.9)
    p = max(
        welch(pipeline + margin, reference, alternative="greater").pvalue,
        welch(pipeline - margin, reference, alternative="less").pvalue,
    )
    return float(pipeline.mean() - reference.mean()), float(high - low) / 2, float(p)


if __name__ == "__main__":
    run(main)
