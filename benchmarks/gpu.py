"""Is it the same on a GPU, and how fast? `python -m benchmarks.gpu`, for whoever has a CUDA device.

First the sameness, of every family of encoders, as large as bert-base and with random weights: one step against
transformers' padded model in float32 on the CPU; two trainings with the same bytes; one that is killed and resumed with
the same bytes. Then, a shape of encoder at a time: steps and sentences a second and the GPU's memory beside the
tutorial's loop and transformers' Trainer (bfloat16, fused AdamW, with and without torch.compile); what deterministic
algorithms cost; prediction; and what share of a training step the GPU waits for launches.

It prints tables and writes benchmarks/results/<gpu>.json after each part, so that a run which is cut short leaves the
parts that it had. `python -m benchmarks.gpu sameness bert-base-uncased` takes these parts alone, and leaves the others
in the file. It takes one GPU, the first that CUDA_VISIBLE_DEVICES names. Without a GPU it does the same with tiny
encoders on the CPU, for its tests: those figures mean nothing, and no file is written.

It runs in the repository's root, and needs neither dvc nor mlflow; these packages are enough: accelerate, filelock,
joblib, numpy, pandas, psutil, pyarrow, pydantic, pyyaml, rich, safetensors, scikit-learn, scipy, tokenizers, torch,
tqdm, transformers.
"""

import gc
import hashlib
import json
import multiprocessing
import os
import signal
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
from typing import Any

import torch
import transformers
from torch.profiler import ProfilerActivity
from tqdm import tqdm
from transformers import PreTrainedConfig

from benchmarks import methods, profile, speed, table, workload
from benchmarks.proofs import step as same_step
from cola.core import files
from cola.core.errors import UserError, run
from cola.data.ragged import Sentences
from cola.model import families
from cola.model.device import choose_precision, describe_machine, peak_memory, prepare_device
from cola.train import checkpoint, loop

SAMENESS = "sameness"  # the first part; the others are the shapes of encoders
METHODS = {"training": methods.TRAINING | methods.TRAINING_ON_A_GPU, "prediction": methods.PREDICTION}
BATCHES, EPOCHS, KILLED_AFTER = 6, 2, 4  # of the trainings whose bytes are compared; steps
WARM_UP, STEPS = 20, 100  # timed
FLOAT32_BOUND, BFLOAT16_BOUND = 1e-4, 2.0  # of a gradient's distance; the latter times that of autocast


def main() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    parts = sys.argv[1:] or [SAMENESS, *workload.SHAPES]
    if unknown := set(parts) - {SAMENESS, *workload.SHAPES}:
        raise UserError(f"{min(unknown)} is no part: {', '.join([SAMENESS, *workload.SHAPES])}")
    device = prepare()
    machine = describe_machine(device)
    print(f"{machine}, torch {torch.__version__}, CUDA {torch.version.cuda}, transformers {transformers.__version__}")
    faults: list[str] = []
    for part in parts:
        if part == SAMENESS:
            found: dict[str, Any] = {SAMENESS: sameness()}
            show_sameness(found[SAMENESS])
            faults += differences(found[SAMENESS])
        else:
            found = speeds(part)
            show_speeds(part, found)
            faults += [
                f"{part}, {kind}, {method}: {result['fault']}"
                for kind, by_method in found.items()
                for method, result in by_method.items()
                if "fault" in result
            ]
        if on_a_gpu():
            save(speed.results_path(machine), machine, part, found)
    if not on_a_gpu():
        print("no GPU: these were tiny encoders on the CPU; the figures mean nothing, and no file is written")
    for fault in faults:
        print(fault)
    if faults:
        raise UserError(f"{len(faults)} things are not the same or did not run: see above")


@cache
def prepare() -> torch.device:
    """The GPU, else the CPU, made to repeat its results, with float32 that is float32; once a process."""
    device = prepare_device("cuda" if on_a_gpu() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return device


def on_a_gpu() -> bool:
    return torch.cuda.is_available()


def config(family: str) -> PreTrainedConfig:
    """As large as bert-base on a GPU, where it depends on the sizes which algorithms are taken; tiny on a CPU."""
    vocabulary = len(workload.VOCABULARY)
    if on_a_gpu():
        return workload.config_of(family, heads=12, size=64, layers=12, inner=3072, vocabulary=vocabulary)
    tiny = workload.config_of(family, vocabulary=vocabulary)
    tiny.initializer_range = 0.2  # with the weights of a new model, what is so narrow says nothing of its sentences
    return tiny


def fresh() -> ProcessPoolExecutor:
    """A process that shares nothing with this one: CUDA cannot be used in a fork."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def sameness() -> dict[str, dict[str, Any]]:
    """By family: its steps' distances, and whether two trainings, and a killed one, have the same bytes."""
    results: dict[str, dict[str, Any]] = {}
    with fresh() as one, fresh() as other:
        for family in tqdm(families.FAMILIES, SAMENESS):
            found = results[family] = {}
            try:
                trainings = [process.submit(train, family) for process in (one, other)]
                found |= distances(family)
                first, second = (training.result() for training in trainings)
                found["two runs"] = first == second
                if on_a_gpu() or family == next(iter(families.FAMILIES)):
                    found["killed and resumed"] = killed_and_resumed(family, other) == first
            except Exception as error:  # an operation without a deterministic algorithm, say
                found["fault"] = first_line(error)
    return results


def distances(family: str) -> dict[str, tuple[float, float]]:
    """How far loss and gradient of a step are from transformers' padded, eager model in float32 on the CPU."""
    device = prepare()
    batch = workload.batches(1, seed=0)[0]
    model = workload.model(config(family), torch.device("cpu")).eval()
    reference = same_step.padded(model, batch, torch.float32)
    torch.nn.Module.to(model, device)
    steps = {"float32": same_step.packed(model, batch, torch.float32)}
    low = choose_precision("auto", device)
    if low != torch.float32:
        steps["bfloat16"] = same_step.packed(model, batch, low)
        steps["autocast"] = same_step.padded(model, batch, low)
    return {name: same_step.deviation(step, reference) for name, step in steps.items()}


def train(family: str, checkpoint_path: Path | None = None) -> str:
    """Train as the pipeline does, with dropout, always from the same start: the sha256 of all weights."""
    device = prepare()
    model = workload.model(config(family), device)
    batches = workload.batches(BATCHES, seed=1)
    labels = torch.cat([labels for _, labels in batches]).numpy()
    sentences = Sentences([ids for input_ids, _ in batches for ids in input_ids], labels)
    changes = {"epochs": EPOCHS, "max_steps": None, "early_stopping": None, "fast": True}
    recipe = methods.RECIPE.model_copy(update=changes)
    precision = choose_precision("auto", device)
    torch.manual_seed(0)
    loop.fit(model, sentences, sentences, recipe, precision, 0, checkpoint_path)
    digest = hashlib.sha256()
    for weights in model.state_dict().values():
        digest.update(weights.cpu().numpy().tobytes())
    return digest.hexdigest()


def killed_and_resumed(family: str, process: ProcessPoolExecutor) -> str:
    """What `train` returns of a training that was killed in a process of its own, and went on in `process`."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoints" / "training.safetensors"
        with fresh() as doomed, suppress(BrokenProcessPool):
            doomed.submit(train_and_die, family, path).result()
        if (steps := checkpoint.read_progress(path).steps_done) != KILLED_AFTER:
            raise RuntimeError(f"the training was to be killed after {KILLED_AFTER} steps, and not after {steps}")
        return process.submit(train, family, path).result()


def train_and_die(family: str, path: Path) -> None:
    """Save a checkpoint after every step, and be killed after KILLED_AFTER of them, in the first epoch."""
    save_checkpoint = checkpoint.save

    def save_and_die(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        if checkpoint.read_progress(path).steps_done == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save = save_and_die  # type: ignore[assignment]
    loop.CHECKPOINT_SECONDS = 0.0
    tqdm.set_lock(RLock())  # not tqdm's own, a semaphore, which Python would miss at its end
    train(family, path)


def differences(results: dict[str, dict[str, Any]]) -> list[str]:
    """What is not the same, in words."""
    faults = []
    for family, found in results.items():
        if "fault" in found:
            faults.append(f"{family}: {found['fault']}")
        if "float32" in found and not found["float32"][1] < FLOAT32_BOUND:
            faults.append(f"{family}: float32 is {found['float32'][1]:.1e} from the CPU's")
        if "bfloat16" in found and not found["bfloat16"][1] < BFLOAT16_BOUND * found["autocast"][1]:
            faults.append(f"{family}: bfloat16 is more than {BFLOAT16_BOUND:.0f} times as far off as autocast")
        faults += [
            f"{family}: {name}: not the same bytes"
            for name in ("two runs", "killed and resumed")
            if found.get(name) is False
        ]
    return faults


def show_sameness(results: dict[str, dict[str, Any]]) -> None:
    def distance(found: dict[str, Any], name: str, number: int) -> str:
        return f"{found[name][number]:.0e}" if name in found else ""

    words = {True: "same", False: "DIFFER", None: ""}
    table.show(
        "a step's distance from the CPU's, and the bytes of trainings",
        ("family", "loss", "gradient", "bfloat16", "autocast", "two runs", "resumed"),
        (
            (
                family,
                distance(found, "float32", 0),
                distance(found, "float32", 1),
                distance(found, "bfloat16", 1),
                distance(found, "autocast", 1),
                words[found.get("two runs")],
                words[found.get("killed and resumed")],
            )
            for family, found in results.items()
        ),
    )


def speeds(shape: str) -> dict[str, dict[str, Any]]:
    """{"training": {method: figures}, "prediction": {method: figures}, "launches": {"bert-cola": figures}}.

    A method that fails on this machine has a "fault" in place of figures, and costs no other its own.
    """
    tasks = [(kind, method) for kind, by_method in METHODS.items() for method in by_method]
    tasks += [("launches", "bert-cola")] * on_a_gpu()
    results: dict[str, dict[str, Any]] = {}
    for kind, method in tqdm(tasks, shape):
        call, arguments = (launches, (shape,)) if kind == "launches" else (timings, (kind, shape, method))
        try:
            figures = in_its_process(call, *arguments)
        except Exception as error:
            figures = {"fault": first_line(error)}
        results.setdefault(kind, {})[method] = figures
    for kind in METHODS:
        ours = results[kind]["bert-cola"].get("seconds")
        for figures in results[kind].values():
            if ours and "seconds" in figures:
                figures["ratio"] = figures["seconds"] / ours
    return results


def in_its_process(call: Callable[..., dict[str, Any]], *arguments: str) -> dict[str, Any]:
    """A process for each on a GPU: its memory is then its own, and torch.compile's settings are no other's."""
    if not on_a_gpu():
        return call(*arguments)
    with fresh() as process:
        return process.submit(call, *arguments).result()


def timings(kind: str, shape: str, method: str) -> dict[str, float]:
    """seconds of a batch, the median; steps_per_second and sentences_per_second; memory_gib, the most at once."""
    device, steps = prepare(), STEPS if on_a_gpu() else 2
    with METHODS[kind][method](built(shape)) as timed:
        timed(workload.batches(WARM_UP if on_a_gpu() else 1, seed=0))
        gc.collect()  # of Trainer's first run, above all the optimizer
        if on_a_gpu():
            torch.cuda.reset_peak_memory_stats()
        # Trainer, which is a new one, may compile again in its first steps.
        seconds = statistics.median(timed(workload.batches(WARM_UP + steps, seed=1))[WARM_UP:])
    rate = 1 / seconds
    return {
        "seconds": seconds,
        "steps_per_second": rate,
        "sentences_per_second": workload.BATCH_SIZE * rate,
        "memory_gib": peak_memory(device),
    }


def built(shape: str) -> transformers.PreTrainedModel:
    """The encoder of this shape on a GPU, a tiny one of its family on a CPU."""
    return workload.model(shape if on_a_gpu() else config(workload.SHAPES[shape].model_type), prepare())


def launches(shape: str) -> dict[str, float]:
    """Of a training step: seconds, kernel_seconds (the GPU at work), kernels, and waiting, the share that is left.

    What is left is launches and Python. The seconds are measured without the profiler, which slows launches down.
    """
    batches = workload.batches(STEPS, seed=1)
    with methods.train_fast(built(shape)) as timed:
        timed(workload.batches(WARM_UP, seed=0))
        seconds = sum(timed(batches)) / STEPS
        with torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            timed(batches)
    ran = profile.operations(profiler.key_averages(), prepare())
    if not ran:
        raise RuntimeError("the profiler saw no kernel: this machine may not let it")
    kernel_seconds = sum(microseconds for _, microseconds, _ in ran) / 1e6 / STEPS
    return {
        "seconds": seconds,
        "kernel_seconds": kernel_seconds,
        "kernels": sum(count for *_, count in ran) / STEPS,
        "waiting": 1 - kernel_seconds / seconds,
    }


def show_speeds(shape: str, results: dict[str, dict[str, Any]]) -> None:
    for kind in METHODS:
        table.show(
            f"{kind}, {shape}: {workload.BATCH_SIZE} sentences a step, ratio to bert-cola's time",
            ("method", "steps/s", "sentences/s", "GiB", "ratio"),
            (
                (method, "failed")
                if "fault" in found
                else (
                    method,
                    f"{found['steps_per_second']:.1f}",
                    f"{found['sentences_per_second']:.0f}",
                    f"{found['memory_gib']:.2f}",
                    f"{found['ratio']:.2f}" if "ratio" in found else "",
                )
                for method, found in results[kind].items()
            ),
        )
    for found in results.get("launches", {}).values():
        if "fault" not in found:
            print(
                f"of a training step's {1e3 * found['seconds']:.1f} ms the GPU works for "
                f"{1e3 * found['kernel_seconds']:.1f} ms, on {found['kernels']:.0f} kernels and copies; for "
                f"{found['waiting']:.0%} it waits for launches"
            )


def save(path: Path, machine: str, part: str, found: dict[str, Any]) -> None:
    """Put a part's results into the machine's file, in the place of what it had of that part."""
    results: dict[str, Any] = {"machine": machine, "training": {}, "prediction": {}}
    if path.exists():
        results |= json.loads(path.read_text())
    results |= {"torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__}
    if part == SAMENESS:
        results |= found
    else:
        for kind, by_method in found.items():
            results.setdefault(kind, {})[part] = by_method
    files.write_text(path, json.dumps(results, indent=2) + "\n")  # with NaN, should a distance be that


def first_line(error: Exception) -> str:
    """'index_add_cuda_ does not have a deterministic implementation, but ...', cut to 100 letters."""
    return f"{str(error).strip() or type(error).__name__}".splitlines()[0][:100]


if __name__ == "__main__":
    run(main)
