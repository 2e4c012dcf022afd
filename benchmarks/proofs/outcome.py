"""Does this training end where the tutorial's ends? Ten seeds of each, and a test of equivalence.

`python -m benchmarks.proofs.outcome` trains the encoder in models/pretrained on the corpus in data/tokenized, with the
settings of params.yaml and each seed: with the tutorial's loop, and with the pipeline's training. As each ends, its row
goes to benchmarks/results/outcome.csv; what is there is not trained again.

The tutorial's loop pads to the longest of a batch here, not to 64, which takes a third of the time: padding is masked.
"""

from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch.nn.functional import cross_entropy

from benchmarks import tutorial
from cola.core import params, paths
from cola.core.errors import run
from cola.data import ragged, tables
from cola.fetch.tables import COLA_LABELS
from cola.model import batching, classifier, metrics, prediction
from cola.model.device import choose_precision, prepare_device
from cola.train import loop
from cola.train.checkpoint import Checkpointer

SEEDS = range(10)
RESULTS = Path("benchmarks/results/outcome.csv")
# Means that differ by less than this many standard deviations of the tutorial's seeds count as equal. With ten seeds
# each, two methods that are the same pass with a chance of 0.9; a narrower margin needs more.
MARGIN = 1.5


def main() -> None:
    for seed in SEEDS:
        for method in ("tutorial", "bert-cola"):
            train(method, seed)
    show(pd.read_csv(RESULTS))


def train(method: str, seed: int) -> None:
    """One training, and its row in RESULTS: every epoch's losses, and the MCC of validation and test at the end."""
    if RESULTS.exists() and ((done := pd.read_csv(RESULTS)).method.eq(method) & done.seed.eq(seed)).any():
        return
    settings = params.load(paths.PARAMS)
    recipe = settings.train
    sentences = {part: ragged.read_sentences(paths.TOKENIZED / f"{part}.parquet") for part in tables.SPLITS}
    ids = {part: each.input_ids for part, each in sentences.items()}
    labels = {part: torch.from_numpy(each.labels) for part, each in sentences.items()}
    device = prepare_device(settings.device)
    precision = choose_precision(settings.precision, device) if method == "bert-cola" else torch.float32
    torch.manual_seed(seed)
    model = classifier.load(paths.PRETRAINED, device, COLA_LABELS)
    row: dict[str, float | str] = {"method": method, "seed": seed}

    def evaluate(name: str) -> tuple[float, float]:  # loss and MCC
        logits = prediction.predict_logits(model, ids[name], precision, padded=method == "tutorial")
        loss = cross_entropy(torch.from_numpy(logits), labels[name]).item()
        return loss, metrics.mcc(labels[name].numpy(), logits.argmax(axis=1))

    if method == "bert-cola":
        with loop.prepare(model, sentences, recipe, precision, seed) as training:
            epochs = loop.fit(training, Checkpointer())
        for epoch in epochs:
            print(f"seed {seed}, bert-cola: {epoch}", flush=True)
            row[f"training_loss_{epoch.epoch}"] = epoch.training_loss
            row[f"validation_loss_{epoch.epoch}"] = epoch.validation_loss
    else:
        model.set_attn_implementation("eager")
        steps = tutorial.fit(model, ids["train"], labels["train"], recipe, seed, length=0)
        per_epoch = len(batching.split_into_batches(np.arange(len(ids["train"])), recipe.batch_size))
        for number in range(1, recipe.epochs + 1):
            row[f"training_loss_{number}"] = float(np.mean(list(islice(steps, per_epoch))))
            row[f"validation_loss_{number}"], mcc = evaluate("validation")
            print(f"seed {seed}, the tutorial's loop: epoch {number}: validation MCC {mcc:.3f}", flush=True)
    row["validation_mcc"], row["test_mcc"] = evaluate("validation")[1], evaluate("test")[1]
    RESULTS.parent.mkdir(exist_ok=True)
    pd.DataFrame([row]).to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False)


def equivalence(one: pd.Series, other: pd.Series, margin: float) -> tuple[float, float, float]:
    """The difference of two means, and two one-sided t-tests (Welch): (difference, half of its 90% interval, p).

    p below 0.05 says that the means differ by less than the margin; it is so when the interval lies within the margin.
    """
    welch = partial(stats.ttest_ind, equal_var=False)
    low, high = welch(one, other).confidence_interval(0.9)
    p = max(
        welch(one + margin, other, alternative="greater").pvalue,
        welch(one - margin, other, alternative="less").pvalue,
    )
    return float(one.mean() - other.mean()), float(high - low) / 2, float(p)


def show(results: pd.DataFrame) -> None:
    by_method = dict(list(results.groupby("method")))
    rows = []
    for name in results.columns[2:]:
        pipeline, tutorial = (by_method[method][name] for method in ("bert-cola", "tutorial"))
        margin = MARGIN * tutorial.std()
        difference, half, p = equivalence(pipeline, tutorial, margin)
        cells = [f"{scores.mean():.3f} ({scores.std():.3f})" for scores in (tutorial, pipeline)]
        equal = f"{'yes' if p < 0.05 else 'not shown'}, p = {p:.2g}"
        rows.append((name, *cells, f"{difference:+.3f}", f"±{half:.3f}", f"{margin:.3f}", equal))
    print(f"{len(by_method['bert-cola'])} seeds of each method: mean (standard deviation)")
    headings = ["", "the tutorial's loop", "bert-cola", "difference", "90% interval", "margin", "equal"]
    print(pd.DataFrame(rows, columns=headings).to_string(index=False))


if __name__ == "__main__":
    run(main)
