"""On every device, for every family: a step is transformers' step; a training repeats its bytes, killed or not.

A CPU trains tiny encoders. A GPU trains encoders as large as bert-base, because the sizes determine its kernels.
"""

import hashlib
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from threading import RLock

import numpy as np
import pytest
import tiny
import torch
from tiny import RECIPE
from tqdm import tqdm

from benchmarks import workload
from benchmarks.proofs import step
from cola.data.tables import Sentences
from cola.model import prediction
from cola.model.device import choose_precision, make_deterministic
from cola.model.families import FAMILIES
from cola.train import checkpoint, loop

KILLED_AFTER = 2  # of 6 steps
every_family = pytest.mark.parametrize("family", FAMILIES)


def build_model(family, device):
    if device.type == "cuda":
        config = tiny.configure(family, heads=12, size=64, layers=12, inner=3072)
    else:
        config = tiny.configure(family)
        config.initializer_range = 0.2  # with a new model's small weights, all logits would be alike
    config.vocab_size = len(workload.VOCABULARY)
    return workload.build_model(config, device)


def train(family, device, precision="auto", checkpoint_path=None, on_step=lambda _: None):
    """Train with dropout, always from the same weights and random state. Returns the sha256 of all weights."""
    make_deterministic()
    tqdm.set_lock(RLock())  # a killed process would leave tqdm's semaphore behind
    model = build_model(family, device)
    batches = workload.draw_batches(3, seed=1, size=RECIPE.batch_size)
    labels = torch.cat([labels for _, labels in batches]).numpy()
    sentences = Sentences([ids for input_ids, _ in batches for ids in input_ids], labels)
    torch.manual_seed(0)
    splits = {"train": sentences, "validation": sentences}
    with loop.prepare(model, splits, RECIPE, choose_precision(precision, device), seed=0) as training:
        loop.fit(training, checkpoint.Checkpointer(checkpoint_path), on_step)
        assert device.type == "cpu" or training.recorded_step.graphs, "no step was recorded"
    digest = hashlib.sha256()
    for weights in model.state_dict().values():
        digest.update(weights.cpu().numpy().tobytes())
    return digest.hexdigest()


def train_and_die(family, device, precision, checkpoint_path):
    """Train with a checkpoint after each step, until SIGKILL in the step after KILLED_AFTER."""

    def die(taken):
        if taken.step > KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.SECONDS = 0.0
    train(family, device, precision, checkpoint_path, die)


def start_new_process():
    """A process that is no fork of this process: a fork cannot use CUDA if this process has used it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cola.train.loop", "benchmarks.proofs.step"])  # their imports take seconds
    return ProcessPoolExecutor(1, context)


@pytest.fixture(scope="module")
def processes():
    with start_new_process() as first, start_new_process() as second:
        yield first, second


@every_family
def test_a_step_is_transformers_step_on_the_cpu(family, device):
    """Loss and gradient are the same in float32. In low precision they deviate at most twice as much as autocast's."""
    batch = workload.draw_batches(1, seed=0)[0]
    model = build_model(family, device).cpu().eval()
    reference = step.step_padded(model, batch, torch.float32)
    model.to(device)
    loss, gradient = step.measure_deviation(step.step_packed(model, batch, torch.float32), reference)
    assert loss < 1e-4
    assert gradient < 1e-4
    for precision, least in ((torch.bfloat16, 1e-3), (torch.float16, 1e-4)):
        _, packed = step.measure_deviation(step.step_packed(model, batch, precision), reference)
        _, autocast = step.measure_deviation(step.step_padded(model, batch, precision), reference)
        assert least < packed < 2 * autocast


@every_family
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_predictions_in_low_precision_deviate_at_most_twice_as_autocasts(family, precision, device):
    input_ids, _ = workload.draw_batches(1, seed=0)[0]
    model = build_model(family, device)
    exact, autocast = (
        prediction.predict_logits(model, input_ids, kind, padded=True) for kind in (torch.float32, precision)
    )
    prediction.make_fast(model, precision)
    distance = np.linalg.norm(prediction.predict_logits(model, input_ids, precision) - exact)
    assert 0 < distance < 2 * np.linalg.norm(autocast - exact)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "precision"), [*((family, "auto") for family in FAMILIES), ("bert", "float16")])
def test_a_training_repeats_its_bytes_even_if_it_was_killed(family, precision, device, processes, tmp_path):
    first, second = (process.submit(train, family, device, precision) for process in processes)
    expected = first.result()
    assert second.result() == expected
    path = tmp_path / "checkpoints" / "training.safetensors"
    with start_new_process() as doomed, suppress(BrokenProcessPool):
        doomed.submit(train_and_die, family, device, precision, path).result()
    assert checkpoint.read_progress(path).steps_done == KILLED_AFTER
    assert processes[1].submit(train, family, device, precision, path).result() == expected
