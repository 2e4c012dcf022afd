"""Corpora of any size: `python -m benchmarks.large_corpus 5000000`, after `dvc repro fetch`.

Generates that many sentences, tokenizes them with the stage, which is killed once, halfway, and trains on them for a
while with the encoder in models/pretrained. Works in a folder of its own under .dvc/tmp, which it removes.
"""

import contextlib
import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import table
from cola.core import files, params, paths
from cola.core.errors import UserError, run
from cola.data import ragged
from cola.data.corpus import COLA_LABELS
from cola.fetch import minimal_pairs
from cola.model import classifier
from cola.model.device import choose_precision, describe_machine, peak_memory, prepare_device
from cola.train import loop

TEST = 1_000  # sentences
STEPS = 200


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        raise UserError("how many sentences? python -m benchmarks.large_corpus 5000000")
    count, root = int(sys.argv[1]), Path.cwd()
    files.verified(paths.PRETRAINED)
    with tempfile.TemporaryDirectory(dir=".dvc/tmp") as name, contextlib.chdir(name):
        paths.PRETRAINED.parent.mkdir()
        paths.PRETRAINED.symlink_to(root / paths.PRETRAINED)
        shutil.copy(root / paths.PARAMS, paths.PARAMS)
        generate(count)
        seconds, gib = tokenize(root)
        interrupted, _ = tokenize(root, seconds / 2)
        rest, _ = tokenize(root)
        share, peak = train()
    rows = [
        ("tokenized", f"{seconds:.0f} s", f"{count / seconds:,.0f} sentences a second"),
        ("most memory meanwhile", f"{gib:.2f} GiB", ""),
        ("killed, then run again", f"{interrupted:.0f} s + {rest:.0f} s", ""),
        ("training's wait for batches", f"{share:.1%}", f"of {STEPS} steps' time"),
        ("most memory in training", f"{peak:.2f} GiB", ""),
    ]
    table.show(f"{count:,} sentences, {describe_machine(prepare_device('auto'))}", ("", "", ""), rows)


def generate(count: int) -> None:
    """A corpus in data/raw, as fetch leaves one."""
    found = [row for rows in minimal_pairs.generate().values() for row in rows]
    drawn = random.Random(0)
    with files.atomic_folder(paths.RAW) as folder:
        for part, rows in (("train", count), ("test", TEST)):
            with (folder / f"{part}.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["text", "label"])
                chosen = (drawn.choice(found) for _ in range(rows))
                writer.writerows((each.sentence, COLA_LABELS[each.label]) for each in chosen)
        files.write_json(folder / "source.json", {"name": "large", "labels": COLA_LABELS})


def tokenize(root: Path, killed_after: float | None = None) -> tuple[float, float]:
    """Run the stage, and kill it after some seconds: (seconds that it took, the most memory that it had, GiB)."""
    started = time.perf_counter()
    stage = subprocess.Popen([sys.executable, "-m", "stages.tokenize"], env=os.environ | {"PYTHONPATH": str(root)})
    if killed_after:
        time.sleep(killed_after)
        stage.kill()
    _, status, usage = os.wait4(stage.pid, 0)
    if status and not killed_after:
        raise UserError("the stage failed: see above")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20  # from KiB, as Linux has it


def train() -> tuple[float, float]:
    """Train for a while: (the share of the time in which batches were made, the most memory that there was, GiB)."""
    settings = params.load(paths.PARAMS)
    device = prepare_device(settings.device)
    model = classifier.load(paths.PRETRAINED, device, COLA_LABELS)
    sentences = ragged.read_sentences(paths.TOKENIZED / "train.parquet")
    few = ragged.Sentences(sentences.input_ids[:128], sentences.labels[:128])
    recipe = settings.train.model_copy(update={"max_steps": STEPS})
    waited, parts = 0.0, loop.micro_batches

    def timed(*arguments: Any) -> Iterator[loop.MicroBatch]:
        nonlocal waited
        making = parts(*arguments)
        while True:
            started = time.perf_counter()
            part = next(making, None)
            waited += time.perf_counter() - started
            if part is None:
                return
            yield part

    loop.micro_batches = timed  # type: ignore[assignment]
    precision = choose_precision(settings.precision, device)
    (epoch,) = loop.fit(model, sentences, few, recipe, precision, settings.seed)
    return waited / epoch.training_seconds, peak_memory(device)


if __name__ == "__main__":
    run(main)
