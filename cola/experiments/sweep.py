"""Every combination of some settings, on a cluster: `python -m cola.experiments.sweep train.epochs=2,3 seed=1,2`.

On one machine DVC's queue does that by itself: `make sweep` chooses.
"""

import hashlib
import itertools
import re
import sys
from collections.abc import Collection, Sequence

from cola.core import params, paths
from cola.core.errors import UserError, run

# A value that stands in a name as it is: a word or a number. Another hyphen would read as one between two settings, and
# git refuses two dots in a row, and .lock at the end.
_PLAIN = re.compile(r"(?!.*\.lock$)\w+(\.\w+)*((?<=[eE])-\d+)?", re.ASCII)


def combinations(settings: Sequence[str], known: Collection[str]) -> dict[str, list[str]]:
    """Every combination of settings with several values each, by a name for it; `known` are the keys of params.yaml.

    ["train.epochs=2,3", "seed=7"] -> {"epochs-2-seed-7": ["train.epochs=2", "seed=7"], "epochs-3-seed-7": ...}
    Raises UserError where there is none, or something that is no setting, or one twice.
    """
    choices: dict[str, list[str]] = {}
    for setting in settings:
        key, _, listed = setting.partition("=")
        values = listed.split(",")
        if not key or not all(values):
            raise UserError(f"{setting!r} is no setting with values: train.epochs=2,3")
        if key not in known:
            raise UserError(f"{key} is no setting of {paths.PARAMS}: {', '.join(known)}")
        if key in choices or len(set(values)) < len(values):
            raise UserError(f"the setting {key}, or one of its values, is given twice: {' '.join(settings)}")
        choices[key] = values
    if not choices:
        raise UserError("which settings? python -m cola.experiments.sweep train.epochs=2,3")
    chosen = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    return {_name(one, known): [f"{key}={value}" for key, value in one.items()] for one in chosen}


def _name(chosen: dict[str, str], known: Collection[str]) -> str:
    """A name that DVC and git take, and that only these settings have: two experiments of one name would be one.

    A key is shortened to its last part where no other key of params.yaml ends in that. A value that is not plain is
    rewritten, and a hash of the settings tells apart what is then alike.
    """
    last_parts = [key.rpartition(".")[2] for key in known]
    parts = []
    for key, value in chosen.items():
        last = key.rpartition(".")[2]
        legal = value if _PLAIN.fullmatch(value) else re.sub(r"\W+", "_", value, flags=re.ASCII)
        parts.append(f"{last if last_parts.count(last) == 1 else key}-{legal}")
    if not all(_PLAIN.fullmatch(value) for value in chosen.values()):
        text = "\n".join(f"{key}={value}" for key, value in chosen.items())
        parts.append(hashlib.sha256(text.encode()).hexdigest()[:8])
    return "-".join(parts)


def main() -> None:
    experiments = combinations(sys.argv[1:], params.flatten(params.load(paths.PARAMS)))
    from cola.experiments import cluster  # needs Dask, an optional extra, which takes a second to load

    cluster.train(experiments)


if __name__ == "__main__":
    run(main)
