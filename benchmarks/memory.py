"""How much memory a training takes, and what bounds it: `python -m benchmarks.memory`.

Batches of 32 sentences, random weights, each case in a process of its own. Sentences are as long as CoLA's, or 11 times
that: up to the 512 tokens that BERT takes.
"""

import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from tqdm import tqdm
from transformers import BertConfig

from benchmarks import methods, table, workload
from cola.core.errors import run
from cola.data.ragged import RaggedArray
from cola.model.device import choose_precision, describe_machine, peak_memory, prepare_device
from cola.train import loop, speedups

SHAPES = {"bert-base": (12, 768), "bert-large": (24, 1024)}  # layers and width
LONGER = (1, 10.8)  # times CoLA's sentences: the longest of these has 508 tokens
MICRO_BATCH_TOKENS = (None, 2048, 512)
STEPS = 3


def main() -> None:
    cases = [(name, scale, tokens) for name in SHAPES for scale in LONGER for tokens in MICRO_BATCH_TOKENS]
    rows = []
    for name, scale, tokens in tqdm(cases, "cases"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            gib, seconds = fresh.submit(measured, *SHAPES[name], scale, tokens).result()
        length = f"{scale * 11.36:.0f}"
        rows.append((name, length, f"{tokens or 'whole batch'}", f"{gib:.1f}", f"{seconds:.1f}"))
    headings = ("encoder", "tokens a sentence", "tokens at once", "peak, GiB", "seconds a step")
    table.show(f"batches of 32: {describe_machine(prepare_device('auto'))}", headings, rows)


def measured(layers: int, width: int, scale: float, tokens: int | None) -> tuple[float, float]:
    """(most memory that this process had at once, GiB; median seconds of a step)."""
    device = prepare_device("auto")
    precision = choose_precision("auto", device)
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width
    )
    model = workload.model(config, device)
    batches = workload.batches(STEPS, 0, scale=scale)
    seconds = []
    with speedups.fast_training(model, [RaggedArray.from_rows([workload.VOCABULARY])], precision, weight_decay=0) as (
        _,
        weights,
    ):
        optimizer = torch.optim.AdamW(weights, lr=2e-5, weight_decay=0, fused=True)
        model.train()
        for input_ids, labels in batches:
            started = methods.now(device)
            share = loop.micro_batches(model, input_ids, labels, np.arange(len(labels)), tokens, packed=True)
            loop.optimizer_step(model, share, optimizer, 1.0, precision)
            seconds.append(methods.now(device) - started)
    return peak_memory(device), statistics.median(seconds)


if __name__ == "__main__":
    run(main)
