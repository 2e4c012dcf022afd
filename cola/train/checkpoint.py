"""The state of a training that has not ended, so that one that was killed goes on where it was.

There is a file per configuration, in .dvc/tmp of the main project, where neither git nor a failed stage deletes it. Its
name is a digest of everything that determines the result, so another configuration never takes it up.
"""

from collections.abc import Iterable, Mapping, Sequence
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
from cola.model.device import random_states, set_random_state
from cola.train import distributed
from cola.train.history import Progress

FOLDER = paths.SCRATCH / "checkpoints"
ROOMS = ("core", "data", "model", "train")  # whose code determines what a training computes
_PROGRESS = TypeAdapter(Progress)


def digest(configuration: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """Of what determines a training's result: its settings, the files it reads, code and libraries."""
    libraries = [module.__version__ for module in (numpy, torch, transformers)]
    return files.digest({"configuration": configuration, "libraries": libraries}, inputs, ROOMS)


def path_for(digest: str) -> Path:
    """Where the checkpoint of a training is, or will be."""
    return FOLDER / f"{digest}.safetensors"


def save(path: Path, optimizer: torch.optim.Optimizer, progress: Progress, best: Sequence[torch.Tensor]) -> None:
    """Replace the checkpoint at `path`: weights, the optimizer's moments, random states, progress.

    `best` are the weights of the best epoch, or empty. Of several processes, all must call this; rank 0 writes.
    Raises UserError where the disk refuses.
    """
    weights: list[torch.Tensor] = optimizer.param_groups[0]["params"]
    tensors = {
        f"random.{device_type}.{rank}": gathered
        for device_type, state in random_states(weights[0].device).items()
        for rank, gathered in enumerate(distributed.all_gather(state, weights[0].device))
    }
    if distributed.rank():
        return
    for number, weight in enumerate(weights):
        tensors[f"{number}.weights"] = weight.detach()
        tensors |= {f"{number}.{name}": moment for name, moment in optimizer.state[weight].items()}
    tensors |= {f"{number}.best": weight for number, weight in enumerate(best)}
    with _lock(path):
        files.remove_stale(path.parent)
        with files.atomic_file(path) as partial:
            save_file(tensors, partial, {"progress": _PROGRESS.dump_json(progress).decode()})


def load(path: Path, optimizer: torch.optim.Optimizer) -> tuple[Progress, list[torch.Tensor]]:
    """Put back what `save` wrote into the optimizer and its weights; return the progress and the best weights.

    Without a checkpoint nothing changes: the progress is that of a training that begins.
    """
    weights: list[torch.Tensor] = optimizer.param_groups[0]["params"]
    distributed.broadcast_file(path, weights[0].device)
    with _lock(path):
        progress, best = read_progress(path), {}
        if not progress.steps_done:
            return progress, []
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no dict
                owner, part, *rank = name.split(".")
                if owner == "random":
                    if int(rank[0]) == distributed.rank():
                        set_random_state(part, file.get_tensor(name))
                    continue
                weight, tensor = weights[int(owner)], file.get_tensor(name)
                if part == "weights":
                    weight.detach().copy_(tensor)
                elif part == "best":
                    best[int(owner)] = tensor.to(weight.device)
                else:
                    optimizer.state[weight][part] = tensor.to(weight.device)
    return progress, [best[number] for number in sorted(best)]


def read_progress(path: Path) -> Progress:
    """How far the training had come; of a training that begins where there is no checkpoint."""
    if not path.exists():
        return Progress()
    with safe_open(path, "pt") as file:
        return _PROGRESS.validate_json(file.metadata()["progress"])


def remove(path: Path) -> None:
    """Delete the checkpoint of a training that has ended."""
    with _lock(path):
        path.unlink(missing_ok=True)


def _lock(path: Path) -> FileLock:
    """Held while a checkpoint is read, written or deleted: two trainings of one configuration may run at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.parent.with_name(f"{path.parent.name}.lock"))
