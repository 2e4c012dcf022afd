"""The state of a training that has not ended, so that one which is killed goes on where it was.

A file per configuration, in .dvc/tmp of the main project, where neither git nor a failed stage loses it. Its name is a
digest of everything that determines the result: another configuration never finds it.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from cola import artifacts, parallel, paths

FOLDER = paths.SCRATCH / "checkpoints"
_FORGOTTEN = 7 * 24 * 3600  # seconds after which a training that nobody resumed is given up


def place(configuration: Mapping[str, Any], inputs: Iterable[Path]) -> Path:
    """Where the state of this training is, or will be, by its settings, what it reads, and what computes it."""
    libraries = [module.__version__ for module in (numpy, torch, transformers)]
    digest = artifacts.digest({"configuration": configuration, "libraries": libraries}, inputs)
    return FOLDER / f"{digest}.safetensors"


def keep(path: Path, optimizer: torch.optim.Optimizer, best: Sequence[torch.Tensor], so_far: Any) -> None:
    """Replace the checkpoint at `path`: weights, the optimizer's moments, the random state, and plain data beside.

    `best` are weights of an earlier epoch, or none. Of several processes, all must call this, and the first writes.
    """
    for old in path.parent.glob("*.safetensors"):
        if time.time() - old.stat().st_mtime > _FORGOTTEN:
            old.unlink(missing_ok=True)
    params = optimizer.param_groups[0]["params"]
    random = {"cpu": torch.get_rng_state()}
    if params[0].is_cuda:
        random["cuda"] = torch.cuda.get_rng_state()
    tensors = {
        f"random.{device}.{rank}": state
        for device, mine in random.items()
        for rank, state in enumerate(parallel.gathered(mine, params[0].device))
    }
    if parallel.rank():
        return
    for number, weights in enumerate(params):
        tensors[f"{number}.weights"] = weights.detach()
        tensors |= {f"{number}.{name}": value for name, value in optimizer.state[weights].items()}
    tensors |= {f"{number}.best": weights for number, weights in enumerate(best)}
    with artifacts.replacing(path) as partial:
        save_file(tensors, partial, {"record": json.dumps(so_far)})


def resume(path: Path, optimizer: torch.optim.Optimizer) -> tuple[list[torch.Tensor], Any]:
    """Put back what `keep` wrote, and return the best weights and what was so far.

    Without a checkpoint, change nothing, and return no weights and None.
    """
    parallel.copy_to_machines(path, optimizer.param_groups[0]["params"][0].device)
    kept, best = record(path), {}
    if kept is None:
        return [], None
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            value = file.get_tensor(name)
            owner, part, *rank = name.split(".")
            if owner == "random":
                if int(rank[0]) == parallel.rank():
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


def record(path: Path) -> Any:
    """What was said of the training when it was kept; None without a checkpoint."""
    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["record"])
