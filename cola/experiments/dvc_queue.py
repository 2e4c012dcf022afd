"""Experiments that DVC runs, one at a time or many at once. Whatever relies on DVC's inside is in this module.

python -m cola.experiments.dvc_queue demo SETTINGS     runs the experiment `demo` in a copy of the project
python -m cola.experiments.dvc_queue sweep SETTINGS    runs every combination of settings: train.epochs=2,3 seed=1,2
python -m cola.experiments.dvc_queue table             shows the experiments of this commit, the best first
"""

import hashlib
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from joblib import cpu_count

from cola.core import params, paths
from cola.core.errors import UserError, run
from cola.report import console

MEMORY = 4 * 2**30  # bytes for each training at once: bert-base takes 2.6 GiB
TEST_MCC = f"{paths.TEST_METRICS}:mcc"  # DVC puts the file before a name that several files have


def train(experiments: Mapping[str, Sequence[str]], last_stages: Sequence[str] = ()) -> None:
    """Run experiments, names with settings such as "seed=1": on the cluster if there is one, else here. DVC prints.

    Stages that `last_stages` do not need are left out. Earlier experiments of these names are removed. Raises
    UserError, before any work, where a setting is wrong, and where an experiment fails.
    """
    applied = [apply_settings(settings) for settings in experiments.values()]
    if "DASK_SCHEDULER_ADDRESS" in os.environ:
        from cola.experiments import cluster  # needs Dask, an optional extra, which takes a second to load

        cluster.train(experiments, last_stages)
        return
    from dvc.repo import Repo  # takes a second: only here

    remove(experiments)
    with _one_line_errors(), Repo() as repo:  # a `dvc exp run --queue` for each would take a second each
        for name, settings in experiments.items():
            repo.experiments.run(queue=True, name=name, params=list(settings), targets=list(last_stages))
    _run_queue(len(experiments), applied[0])
    if failed := [name for name in experiments if name not in _list()]:
        raise UserError(f"no result of {', '.join(failed)}: `dvc queue logs {failed[0]}` says why")


def _run_queue(trainings: int, settings: params.Params) -> None:
    """Have DVC run its queue, to which this command has added so many trainings. Raises UserError where DVC fails.

    How many run at once follows from the machine and from `trainings`, not from what is idle or in DVC's cache: the
    number of threads decides a training's bytes, and the same command has to give the same.
    """
    import torch  # takes two seconds: only here

    from cola.model.device import choose_device, device_name

    device, environment = choose_device(settings.device), dict(os.environ)
    if device.type == "cpu":
        chosen = torch.get_num_threads() if "OMP_NUM_THREADS" in environment else None
        jobs, threads = plan(trainings, cpu_count(), memory_limit(), settings.train.processes, chosen)
        environment["OMP_NUM_THREADS"] = str(threads)
        print(f"{trainings} trainings, {jobs} at once, each with OMP_NUM_THREADS={threads}", flush=True)
    else:
        gpus = torch.cuda.device_count() if device.type == "cuda" else 1
        jobs = max(1, min(trainings, gpus // settings.train.processes))
        print(f"{trainings} trainings, {jobs} at once, each on a {device_name(device)}", flush=True)
    command = ["dvc", "exp", "run", "--run-all", "--jobs", str(jobs)]
    if subprocess.run(command, env=environment, check=False).returncode:
        raise UserError("dvc exp run failed: see above")


def plan(trainings: int, cores: int, memory: int, processes: int, threads: int | None) -> tuple[int, int]:
    """How many of the trainings to run at once on a CPU, and the threads of each process.

    On a CPU, trainings side by side with a thread each do more than one after the other with all threads. `cores` and
    `memory`, in bytes, are the machine's, `processes` are those of each training; `threads` is None unless the user
    has chosen it.
    """
    jobs = max(1, min(trainings, cores // (processes * (threads or 1)), memory // MEMORY))
    return jobs, threads or max(1, cores // (jobs * processes))


def memory_limit(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The memory, in bytes, that this process may use: the machine's, or a container's limit where that is lower."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of cgroups version 2 and 1
        text = path.read_text().strip() if (path := cgroups / name).exists() else "max"
        limits += [int(text)] if text != "max" else []
    return min(limits)


def run_now(name: str, settings: Sequence[str], last_stages: Sequence[str] = ()) -> None:
    """Run an experiment in a copy of the project, in this process. DVC prints.

    An earlier experiment of this name is removed. Raises UserError where it fails.
    """
    from dvc.cli import main as run_dvc  # takes a second: only here

    remove([name])
    # Before an experiment, DVC restores the outputs that dvc.lock names. This logger warns of each one that is missing:
    # in a fresh clone, of all. It warns of nothing else.
    logging.getLogger("dvc_data.index.checkout").setLevel(logging.ERROR)
    options = [option for setting in settings for option in ("--set-param", setting)]
    if run_dvc(["exp", "run", "--temp", "--name", name, *options, *last_stages]):
        raise UserError("dvc exp run failed: see above")


def apply_settings(settings: Sequence[str]) -> params.Params:
    """params.yaml with these settings, as DVC sets them. Raises UserError where one is unknown or has a wrong value."""
    from dvc.utils.hydra import apply_overrides  # takes a second: only here

    params.load(paths.PARAMS)  # an error in the file itself is no setting's
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, paths.PARAMS.name)
        copy.write_bytes(paths.PARAMS.read_bytes())
        with _one_line_errors():
            apply_overrides(copy, list(settings))
        return params.parse(copy.read_bytes(), paths.PARAMS)


def combine(settings: Sequence[str]) -> dict[str, list[str]]:
    """Every combination of settings that have several values, by a name for it. Raises UserError where one is wrong.

    ["train.epochs=2,3", "seed=7"] -> {"epochs-2-seed-7-d573e80d": ["train.epochs=2", "seed=7"], "epochs-3-...": ...}
    """
    from dvc.utils.hydra import get_hydra_sweeps  # takes a second: only here

    file = paths.PARAMS.name
    with _one_line_errors():
        combinations = [list(sweep[file]) for sweep in get_hydra_sweeps({file: list(settings)})]
    return {name_experiment(*combination): combination for combination in combinations}


def name_experiment(*parts: str) -> str:
    """A name that git and DVC accept and that no other parts have: ("seed=7", "a=b/c") -> "seed-7-a-b-c-c60a0dba".

    Characters that git refuses are replaced, and long names are cut: the digest of the parts tells apart what this
    makes equal.
    """
    readable = re.sub(r"[^\w.]+|\.\.+", "-", "-".join(parts).replace("train.", ""), flags=re.ASCII)
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
    return f"{readable[:60]}-{digest}"


def tabulate(shown: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> list[tuple[str, str, str]]:
    """A row for each experiment of dvc.api.exp_show, the best test MCC first: test MCC, validation MCC, and a text.

    The text is the experiment's name, and those of its settings (named in `settings`) that are not the commit's. An
    experiment that has not ended, or has failed, has no MCC and comes last.
    """
    commit = next(row for row in shown if row["typ"] == "baseline" and row["rev"] != "workspace")
    experiments = [row for row in shown if row["Experiment"]]
    experiments.sort(key=lambda row: mcc if isinstance(mcc := row.get(TEST_MCC), float) else -2.0, reverse=True)
    rows = []
    for row in experiments:
        changed = [f"{name}={_show(row[name])}" for name in settings if row[name] != commit[name]]
        test, validation = (
            f"{mcc:.3f}" if isinstance(mcc := row.get(name), float) else "-" for name in (TEST_MCC, "validation_mcc")
        )
        rows.append((test, validation, " ".join([f"{row['Experiment']}:", *changed]).removesuffix(":")))
    return rows


def _show(value: object) -> str:
    """DVC gives all numbers as floats: 42.0 -> '42', 5e-05 -> '5e-05'."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _print_table() -> None:
    from dvc.api import exp_show  # takes a second: only here

    rows = tabulate(exp_show(), list(params.flatten(params.load(paths.PARAMS))))
    if not rows:
        raise UserError("no experiment has run at this commit: `make demo` runs one")
    table = console.empty_table(numbers=["test\nMCC", "validation\nMCC"])
    table.add_column("experiment: settings that are not the commit's", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.plain_console().print(table)


def remove(names: Iterable[str]) -> None:
    """Remove those of these experiments that this commit has."""
    from dvc.repo import Repo  # takes a second: only here

    present = _list()
    with _one_line_errors(), Repo() as repo:
        repo.experiments.remove(sorted(present & {*names}))


def _list() -> set[str]:
    """The names of the experiments that this commit has."""
    from dvc.repo import Repo  # takes a second: only here

    with Repo() as repo:
        return {name for experiments in repo.experiments.ls().values() for name, _ in experiments}


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Raise DVC's errors, and those of hydra, with which DVC reads settings, as UserError."""
    from dvc.exceptions import DvcException
    from hydra.errors import HydraException

    try:
        yield
    except (DvcException, HydraException) as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise UserError(f"DVC refuses this: {reason} (a setting is a key and a value: train.epochs=3)") from None


def main() -> None:
    match sys.argv[1:]:
        case ["demo", *settings]:
            run_now("demo", settings)
        case ["sweep", *settings] if settings:
            train(combine(settings))
        case ["table"]:
            _print_table()
        case _:
            raise UserError("which settings? make sweep SWEEP='train.epochs=2,3 seed=1,2'")


if __name__ == "__main__":
    run(main)
