"""The state of a training that has not ended, so that one which is killed goes on where it was.

A file per configuration, in .dvc/tmp of the main project, where neither git nor a failed stage loses it. Its name is a
digest of everything that determines the result: another configuration never finds it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from cola.core import files, paths
from cola.train import distributed

FOLDER = paths.SCRATCH / "checkpoints"
ROOMS = ("core", "data", "model", "train")  # whose code determines what a training computes


def path_for(configuration: Mapping[str, Any], inputs: Iterable[Path]) -> Path:
    """Where the state of this training is, or will be, by its settings, what it reads, and what computes it."""
    libraries = [module.__version__ for module in (numpy, torch, transformers)]
    digest = files.digest({"configuration": configuration, "libraries": libraries}, inputs, ROOMS)
    return FOLDER / f"{digest}.safetensors"


def save(path: Path, optimizer: torch.optim.Optimizer, best: Sequence[torch.Tensor], so_far: Any) -> None:
    """Replace the checkpoint at `path`: weights, the optimizer's moments, the random state, and plain data beside.

    `best` are weights of an earlier epoch, or none. Of several processes, all must call this, and the first writes.
    """
    files.remove_stale(path.parent)
    params = optimizer.param_groups[0]["params"]
    random = {"cpu": torch.get_rng_state()}
    if params[0].is_cuda:
        random["cuda"] = torch.cuda.get_rng_state()
    tensors = {
        f"random.{device}.{rank}": state
        for device, mine in random.items()
        for rank, state in enumerate(distributed.all_gather(mine, params[0].device))
    }
    if distributed.rank():
        return
    for number, weights in enumerate(params):
        tensors[f"{number}.weights"] = weights.detach()
        tensors |= {f"{number}.{name}": value for name, value in optimizer.state[weights].items()}
    tensors |= {f"{number}.best": weights for number, weights in enumerate(best)}
    with files.atomic_file(path) as partial:
        save_file(tensors, partial, {"record": json.dumps(so_far)})


def load(path: Path, optimizer: torch.optim.Optimizer) -> tuple[list[torch.Tensor], Any]:
    """Put back what `keep` wrote, and return the best weights and what was so far.

    Without a checkpoint, change nothing, and return no weights and None.
    """
    distributed.broadcast_file(path, optimizer.param_groups[0]["params"][0].device)
    kept, best = read_record(path), {}
    if kept is None:
        return [], None
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            value = file.get_tensor(name)
            owner, part, *rank = name.split(".")
            if owner == "random":
                if int(rank[0]) == distributed.rank():
                    {"cpu": torch.set_rng_state, "cuda": torch.cuda.set_rng_state}[part](value)
                continue
            weights = optimizer.param_groups[0]["params"][int(owner)]
            if part == "weights":
                weights.detach().copy_(value)
            elif part == "best":
                best[int(owner)] = value.to(weights.device)
            else:
                optimizer.state[weights][part] = value.to(weights.device)
    return [best[number] for number in sorted(best)], kept


def read_record(path: Path) -> Any:
    """What was said of the training when it was kept; None without a checkpoint."""
    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["record"])
