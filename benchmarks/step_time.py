"""How long the tutorial's training takes on this machine: steps of bert-base-uncased's shape, with random weights.

`python -m benchmarks.step_time` times 20 steps of 32 sentences as long as CoLA's, and says what 964 of them would take.
"""

import statistics
import time

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from cola import classifier, fast, runtime, training
from cola.errors import run

STEPS, WARM_UP = 20, 3
TUTORIAL_STEPS = 964  # 4 epochs of 241 batches


def main() -> None:
    runtime.fix_seed(0)
    device = runtime.choose_device("auto")
    precision = runtime.choose_precision("auto", device)
    config = BertConfig()  # its defaults are bert-base-uncased's sizes, and two labels
    model = BertForSequenceClassification(config)
    torch.nn.Module.to(model, device).train()
    rng = np.random.default_rng(0)
    # Lengths in tokens as CoLA's: 11.3 on average, 3 to 47. About 5,600 of the vocabulary's words occur.
    lengths = np.clip(rng.gamma(4.5, 1.85, (STEPS + WARM_UP, 32)).round() + 3, 3, 47).astype(int)
    sentences = [[rng.integers(1_000, 6_600, length) for length in batch] for batch in lengths]
    seconds = []
    with fast.prepared(model, sentences, 0.0) as batches:
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0, fused=True)
        for input_ids in batches:
            labels = torch.tensor(rng.integers(0, 2, len(input_ids)))
            started = time.perf_counter()
            batch = classifier.collate(model, input_ids, packed=True)
            training.step(model, batch, labels, optimizer, 1.0, precision)
            seconds.append(time.perf_counter() - started)
    step = statistics.median(seconds[WARM_UP:])
    print(f"{runtime.describe(device)}, {precision}, {lengths.mean():.1f} tokens a sentence")
    print(f"median step: {step:.3f} s; {TUTORIAL_STEPS} steps: about {step * TUTORIAL_STEPS / 60:.0f} minutes")


if __name__ == "__main__":
    run(main)
