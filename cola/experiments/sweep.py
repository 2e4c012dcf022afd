"""Every combination of some settings, on a cluster: `python -m cola.experiments.sweep train.epochs=2,3 seed=1,2`.

On one machine DVC's queue does that by itself: `make sweep` chooses.
"""

import itertools
import sys
from collections.abc import Sequence

from cola.core.errors import UserError, run


def combinations(settings: Sequence[str]) -> dict[str, list[str]]:
    """Every combination of settings with several values each, by a name for it.

    ["train.epochs=2,3", "seed=7"] -> {"epochs-2-seed-7": ["train.epochs=2", "seed=7"], "epochs-3-seed-7": ...}
    Raises UserError where there is none, or something that is no setting.
    """
    choices = []
    for setting in settings:
        key, _, values = setting.partition("=")
        if not key or not all(values.split(",")):
            raise UserError(f"{setting!r} is no setting with values: train.epochs=2,3")
        choices.append([(key, value) for value in values.split(",")])
    if not choices:
        raise UserError("which settings? python -m cola.experiments.sweep train.epochs=2,3")
    return {
        "-".join(f"{key.rpartition('.')[2]}-{value}" for key, value in chosen): [f"{k}={value}" for k, value in chosen]
        for chosen in itertools.product(*choices)
    }


def main() -> None:
    experiments = combinations(sys.argv[1:])
    from cola.experiments import cluster  # needs Dask, an optional extra, which takes a second to load

    cluster.train(experiments)


if __name__ == "__main__":
    run(main)
