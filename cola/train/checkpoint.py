"""Checkpoints: the state of a training that has not ended, so that a killed training continues where it was.

A configuration has one file, in .dvc/tmp of the main project, where neither git nor a failed stage deletes it. The name
is a digest of everything that determines the result, so no other configuration loads it.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from filelock import FileLock
from pydantic import TypeAdapter
from safetensors import safe_open
from safetensors.torch import save_file

from cola.core import files, paths
from cola.core.errors import UserError, join_lines
from cola.model.device import get_random_states, set_random_state
from cola.train import distributed
from cola.train.history import Epoch, LossScale, Progress, Step

FOLDER = paths.SCRATCH / "checkpoints"
ROOMS = ("core", "data", "model", "train")  # their code determines what a training computes
SECONDS = 300.0  # the most training time that a kill costs
_RECORD = TypeAdapter(tuple[list[Epoch], list[Step], float, LossScale])  # Progress without its weights


class Checkpointer:
    """Saves a training from time to time, and loads it again. Without a path it does neither."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._saved = time.perf_counter()
        self._cost = 0.0  # seconds that the last save took

    def load(self, optimizer: torch.optim.Optimizer) -> Progress:
        """The progress at the checkpoint, as the function `load` returns it."""
        return load(self.path, optimizer) if self.path else Progress()

    def after_step(self, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Save if SECONDS have passed. Several processes ask this at every 50th step only: to agree takes time."""
        if distributed.world_size() == 1 or progress.steps_done % 50 == 0:
            self._save_after(SECONDS, optimizer, progress)

    def after_epoch(self, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Save, from the second time on only if that takes less than a twentieth of the time since the last save."""
        self._save_after(20 * self._cost, optimizer, progress)

    def _save_after(self, seconds: float, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        started = time.perf_counter()
        due, device = started - self._saved > seconds, optimizer.param_groups[0]["params"][0].device
        if self.path and distributed.all_reduce_max(float(due), device) > 0:  # all processes save, or none
            save(self.path, optimizer, progress)
            self._saved = time.perf_counter()
            self._cost = self._saved - started

    @contextmanager
    def name_interrupts(self) -> Iterator[None]:
        """Turn Ctrl-C in the block into an error with the step after which the training will continue."""
        try:
            yield
        except KeyboardInterrupt:
            steps = read_progress(self.path).steps_done if self.path else 0
            raise UserError(f"interrupted; `dvc repro` goes on after step {steps}") from None


def find_path(configuration: Mapping[str, Any], inputs: Iterable[Path]) -> Path:
    """The path of a training's checkpoint. Settings, input files, code and libraries determine it."""
    libraries = [module.__version__ for module in (numpy, torch, transformers)]
    digest = files.compute_digest({"configuration": configuration, "libraries": libraries}, inputs, ROOMS)
    return FOLDER / f"{digest}.safetensors"


def save(path: Path, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Replace the checkpoint at `path`: weights, the optimizer's moments, random states, progress.

    All processes must call this; rank 0 writes. Raises UserError if the file cannot be written.
    """
    weights: list[torch.Tensor] = optimizer.param_groups[0]["params"]
    tensors = {
        f"random.{device_type}.{rank}": gathered
        for device_type, state in get_random_states(weights[0].device).items()
        for rank, gathered in enumerate(distributed.all_gather(state, weights[0].device))
    }
    if distributed.rank():
        return
    for number, weight in enumerate(weights):
        tensors[f"{number}.weights"] = weight.detach()
        tensors |= {f"{number}.{name}": moment for name, moment in optimizer.state[weight].items()}
    tensors |= {f"{number}.best": weight for number, weight in enumerate(progress.best_weights)}
    record = _RECORD.dump_json((progress.epochs, progress.steps, progress.seconds, progress.loss_scale)).decode()
    with _lock(path):
        files.remove_stale(path.parent)
        with files.atomic_file(path) as partial:
            save_file(tensors, partial, {"progress": record})


def load(path: Path, optimizer: torch.optim.Optimizer) -> Progress:
    """Restore the optimizer, its weights and the random states from the checkpoint; return the progress.

    Without a checkpoint nothing changes, and the progress is a new training's. Raises as read_progress.
    """
    weights: list[torch.Tensor] = optimizer.param_groups[0]["params"]
    distributed.broadcast_file(path, weights[0].device)
    with _lock(path):
        progress, best = read_progress(path), {}
        if not progress.steps_done:
            return progress
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no dict
                number, part, *rank = name.split(".")
                if number == "random":
                    if int(rank[0]) == distributed.rank():
                        set_random_state(part, file.get_tensor(name))
                    continue
                weight, tensor = weights[int(number)], file.get_tensor(name)
                if part == "weights":
                    weight.detach().copy_(tensor)
                elif part == "best":
                    best[int(number)] = tensor.to(weight.device)
                else:
                    optimizer.state[weight][part] = tensor.to(weight.device)
    progress.best_weights = [best[number] for number in sorted(best)]
    return progress


def read_progress(path: Path) -> Progress:
    """The checkpoint's progress, without weights; a new training's without a checkpoint.

    Raises UserError if the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            return Progress(*_RECORD.validate_json(file.metadata()["progress"]))
    except FileNotFoundError:
        return Progress()
    except Exception as error:
        raise UserError(f"{path} is damaged ({join_lines(error)}): remove it, and the training starts again") from None


def remove(path: Path) -> None:
    """Delete the checkpoint of a training that has ended."""
    with _lock(path):
        path.unlink(missing_ok=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the checkpoints' lock within the block: two trainings of the same configuration may run at once."""
    lock = FileLock(path.parent.with_name(f"{path.parent.name}.lock"))
    with files.name_write_errors(Path(lock.lock_file)):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
