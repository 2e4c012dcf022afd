"""Experiments that DVC runs, one at a time or many at once. Only this module relies on DVC's inside.

python -m cola.experiments.dvc_experiments demo SETTINGS    runs the experiment `demo` in a copy of the project
python -m cola.experiments.dvc_experiments sweep SETTINGS   runs every combination: train.epochs=2,3 seed=1,2
python -m cola.experiments.dvc_experiments table            shows the experiments of this commit, the best first
"""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.report_import_errors()

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from joblib import cpu_count

from cola.core import files, params, paths
from cola.core.errors import UserError, join_lines, run
from cola.experiments.overrides import Settings, apply_settings, combine_settings, parse_settings, quote_settings
from cola.report import console, revision

MEMORY = 4 * 2**30  # bytes for a training: bert-base takes 2.6 GiB
COPIES = Path(".dvc/tmp/exps/copies")  # of the project: an experiment runs in each
ENDS = (signal.SIGHUP, signal.SIGTERM)  # act as Ctrl-C
RUN_CACHE_LOCK = Path(".dvc/tmp/exps/run_cache.lock")
LOGS = Path(".dvc/tmp/logs")  # what the experiments print, by name
STASH = "refs/experiments/stash"  # where git holds the experiments that are not yet run
TEST_MCC = f"{paths.TEST_METRICS}:mcc"  # DVC names the file, too, because several files have an mcc


def run_experiments(experiments: Mapping[str, Settings], last_stages: Sequence[str] = ()) -> dict[str, str]:
    """Run experiments as `run_here` does, but on the cluster that DASK_SCHEDULER_ADDRESS names, if it names one."""
    if "DASK_SCHEDULER_ADDRESS" not in os.environ:
        return run_here(experiments, last_stages)
    from cola.experiments import cluster  # needs Dask, an optional extra, which takes a second to load

    recipes, baseline = _apply(experiments), _require_repository()
    cluster.run_experiments(experiments, last_stages)
    return _find_results(recipes, baseline, {})


def run_here(experiments: Mapping[str, Settings], last_stages: Sequence[str] = ()) -> dict[str, str]:
    """Run experiments, settings by name, on this machine, and return their commits. Prints what they print.

    Stages that `last_stages` do not need are left out. The result of an experiment replaces the earlier experiment of
    its name. Raises UserError, before any work, where a setting is wrong or DVC would lose a result, and where an
    experiment fails.
    """
    recipes, baseline = _apply(experiments), _require_repository()
    try:
        with _handle_signals(signal.default_int_handler, *ENDS), FileLock(COPIES.with_suffix(".lock"), timeout=0):
            earlier = {name: commit for name, commit in revision.list_experiments(baseline).items() if name in recipes}
            if earlier:
                print(f"earlier experiments of these names are replaced: {', '.join(sorted(earlier))}")
            jobs, environment = _share_machine(len(experiments), next(iter(recipes.values())))
            try:
                _run_in_copies(_stash(experiments, last_stages), jobs, environment)
            finally:
                shutil.rmtree(COPIES, ignore_errors=True)  # also those of commands that were killed
    except Timeout:
        raise UserError("another command runs experiments in this project: wait until it ends") from None
    return _find_results(recipes, baseline, earlier)


def _apply(experiments: Mapping[str, Settings]) -> dict[str, params.Params]:
    return {name: apply_settings(settings) for name, settings in experiments.items()}


@contextmanager
def _handle_signals(handler: Callable[[int, FrameType | None], object], *numbers: int) -> Iterator[None]:
    """Let `handler` have these signals in the block, except those that are ignored, as nohup does with SIGHUP."""
    handled = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, present in before.items():
            signal.signal(number, present)


@contextmanager
def _open_repository() -> Iterator[Any]:
    """DVC's repository. Its errors, and those of git's libraries in it, become UserError."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo  # takes a second: only here
    from scmrepo.exceptions import SCMError

    try:
        with Repo() as repo:
            yield repo
    except (DvcException, SCMError) as error:
        remedy = ""
        if broken := re.search("Unable to read RWLock-file '(.*?)'", str(error)):  # DVC was killed as it wrote it
            remedy = f": rm {broken[1]}"
        raise UserError(f"DVC refuses this: {join_lines(error)}{remedy}") from None


def _require_repository() -> str:
    """The workspace's commit. Raises UserError where DVC would refuse experiments or lose their results."""
    commit = revision.read_commit()
    index_lock = Path(revision.run_program("git", "rev-parse", "--git-path", "index.lock").strip())
    if index_lock.exists():
        raise UserError(f"git works in this project, or has crashed: when no git runs any more, rm {index_lock}")
    if revision.run_program("git", "rev-parse", "--is-shallow-repository").strip() == "true":
        raise UserError("this is a shallow clone, in which DVC loses experiments: git fetch --unshallow")
    configuration = revision.run_program("git", "config", "--list")
    if partial := re.search(r"^(remote\..*\.partialclonefilter)=", configuration, re.MULTILINE):
        remedy = f"git config --unset {partial[1]} && git fetch --refetch"
        raise UserError(f"this is a partial clone, in which DVC's experiments fail: {remedy}")
    _require_readable_index()
    # DVC writes its path to a file in ASCII, and reads it as part of a URL and of a template.
    if unfit := re.search(r"[^ -~]|[#%?{}]", str(Path.cwd())):
        raise UserError(f"{Path.cwd()} has {unfit[0]} in it, with which DVC loses experiments: move the project")
    return commit


def _require_readable_index() -> None:
    """Raise UserError where DVC's libraries cannot read git's index: DVC would fail, or wait for ever."""
    import pygit2  # takes 0.1 s: only here

    try:
        _ = pygit2.Repository(pygit2.discover_repository(".")).index
    except pygit2.GitError as error:
        if "extension" in str(error):
            raise UserError(
                "DVC cannot read a split or a sparse index of git: run `git config core.splitIndex false && git "
                "update-index --no-split-index`, or `git sparse-checkout reapply --no-sparse-index`"
            ) from None


def _find_results(recipes: Mapping[str, params.Params], baseline: str, earlier: Mapping[str, str]) -> dict[str, str]:
    """The commits, by name, of the experiments of the commit `baseline` whose params.yaml is as in `recipes`.

    Raises UserError where an experiment is missing, or is still the `earlier` one. DVC silently drops it if another
    experiment took its name.
    """
    commits = revision.list_experiments(baseline)
    if failed := [name for name in recipes if commits.get(name) == earlier.get(name)]:
        raise UserError(f"no result of {', '.join(failed)}: the output above says why")
    for name, recipe in recipes.items():
        if params.parse(revision.read_bytes(paths.PARAMS, commits[name]), paths.PARAMS) != recipe:
            raise UserError(
                f"another experiment, with other settings, took the name {name}: remove it (dvc exp remove {name}, on "
                "a cluster also with --git-remote origin), and run this again"
            )
    return {name: commits[name] for name in recipes}


def _share_machine(trainings: int, settings: params.Params) -> tuple[int, dict[str, str]]:
    """How many trainings to run at once, and the environment of each.

    Both depend on the machine and on `trainings`, not on what is idle or cached: the number of threads decides a
    training's bytes, and the same command must give the same bytes.
    """
    if trainings == 1:
        return 1, revision.make_environment()
    import torch  # takes two seconds: only here

    from cola.model.device import choose_device, describe_machine

    device, environment = choose_device(settings.device), revision.make_environment()
    if device.type == "cpu":
        chosen = torch.get_num_threads() if "OMP_NUM_THREADS" in environment else None
        jobs, threads = plan_jobs(trainings, cpu_count(), read_memory_limit(), settings.train.processes, chosen)
        environment["OMP_NUM_THREADS"] = str(threads)
        share = f"with OMP_NUM_THREADS={threads}"
    else:
        gpus = torch.cuda.device_count() if device.type == "cuda" else 1
        jobs = max(1, min(trainings, gpus // settings.train.processes))
        share = f"on a {describe_machine(device)}"
    print(f"{trainings} trainings, {jobs} at once, each {share}", flush=True)
    return jobs, environment


def _stash(experiments: Mapping[str, Settings], last_stages: Sequence[str]) -> list[Any]:
    """Have DVC stash the workspace with each experiment's settings: a later edit changes none of them.

    Returns DVC's entries. Commands that were killed may have left others.
    """
    from dvc.repo import lock_repo
    from dvc.repo.experiments.queue.tempdir import TempDirQueue

    with _open_repository() as repo, lock_repo(repo):
        queue = TempDirQueue(repo, STASH)
        if queue.stash.list():
            queue.stash.clear()
        entries, signals = [], list[int]()
        for name, settings in experiments.items():
            # DVC takes the user's edits out of the workspace for a moment, in which it must not be interrupted.
            with _handle_signals(lambda number, frame: signals.append(number), signal.SIGINT, *ENDS):
                options = {"params": {str(paths.PARAMS): quote_settings(settings)}, "targets": list(last_stages)}
                entries.append(queue.put(name=name, **options))
            if signals:
                raise KeyboardInterrupt
        return entries


def _run_in_copies(entries: Sequence[Any], jobs: int, environment: Mapping[str, str]) -> None:
    """Run stashed experiments, `jobs` at once, each in a copy of the project. Print their logs one after the other.

    All end with this process. DVC's own queue is not used: its workers stop within an hour or so, when they read a
    message that is still being written, and `dvc exp run --run-all` then waits for ever.
    """
    for folder in (COPIES, LOGS):
        folder.mkdir(parents=True, exist_ok=True)
    lock = threading.Lock()  # DVC's locks keep processes apart, but not threads
    running: set[subprocess.Popen[bytes]] = set()
    interrupted = threading.Event()

    def run_entry(entry: Any) -> None:
        with _name_log(entry).open("ab") as log:
            try:
                with lock:
                    if interrupted.is_set():
                        return
                    copy, process = _start_in_copy(entry, log if len(entries) > 1 else None, environment)
                    running.add(process)
                process.wait()
                with lock:
                    running.remove(process)
                    _collect(entry, copy)
            except UserError as error:
                log.write(f"error: {error}\n".encode())

    for entry in entries:
        _name_log(entry).write_bytes(b"")
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run_entry, entry) for entry in entries]
        try:
            for entry, future in zip(entries, futures, strict=True):
                _print_log(_name_log(entry), future)
        except BaseException:
            interrupted.set()
            with lock:
                for process in running:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGINT)
            raise


def _start_in_copy(entry: Any, output: BinaryIO | None, environment: Mapping[str, str]) -> tuple[Any, Any]:
    """Copy the project, and start an experiment in the copy. Returns the copy, and the process."""
    from dvc.repo.experiments.executor.local import TempDirExecutor
    from dvc.repo.experiments.queue.base import BaseStashQueue

    with files.name_write_errors(COPIES), _open_repository() as repo:
        copy = BaseStashQueue.init_executor(repo.experiments, entry, TempDirExecutor, wdir=str(COPIES.resolve()))
        state = _name_state(repo, entry)
    process = subprocess.Popen(
        [sys.executable, "-m", "cola.experiments.dvc_experiments", "stashed", state, str(RUN_CACHE_LOCK.resolve())],
        cwd=Path(copy.root_dir, copy.wdir),  # an edit of the workspace's code changes nothing
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        process_group=0,
        preexec_fn=partial(_prepare_process, os.getpid()),
    )
    return copy, process


def _prepare_process(parent: int) -> None:
    """Let an experiment's process end by SIGINT, and with this command, its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a script's command that ends with & ignores it, and passes that on
    processes.end_with_parent(parent)  # the thread that starts the process lives as long


def _run_stashed(state: str, lock: str) -> None:
    """Run the stashed experiment whose copy of the project the file `state` names: the process of `_start_in_copy`."""
    from dvc.cli import main
    from dvc.stage.cache import StageCache

    # In a fresh clone DVC warns of each output of dvc.lock: all are missing in the cache.
    logging.getLogger("dvc_data.index.checkout").setLevel(logging.ERROR)
    # DVC removes a file of its run cache that another experiment is writing, which then fails.
    one_at_a_time = FileLock(lock)
    for method in (StageCache._load, StageCache.save):
        setattr(StageCache, method.__name__, one_at_a_time(method))
    sys.exit(main(["exp", "exec-run", "--infofile", state]))


def _collect(entry: Any, copy: Any) -> None:
    """Bring an experiment's result, if it has one, into the repository, and remove the copy of the project."""
    from dvc.repo.experiments.executor.base import ExecutorInfo

    with _open_repository() as repo:
        state = _name_state(repo, entry)
        copy.result = type(copy).from_info(ExecutorInfo.load_json(state)).result
        if copy.result:
            revision.remove_experiment(entry.name, entry.baseline_rev)
            repo.experiments.celery_queue.collect_executor(repo.experiments, copy, copy.result)
    copy.cleanup(state)


def _name_state(repo: Any, entry: Any) -> str:
    """The file in which DVC keeps an experiment's state, and its result."""
    return str(repo.experiments.celery_queue.get_infofile_path(entry.stash_rev))


def _name_log(entry: Any) -> Path:
    return LOGS / f"{entry.name}.log"


def _print_log(log: Path, future: "Future[None]") -> None:
    """Print what an experiment writes to its log until it has ended."""
    with log.open("rb") as file:
        ended = False
        while not ended:
            ended = future.done()  # first: nothing is written after it
            sys.stdout.buffer.write(file.read())
            sys.stdout.flush()
            if not ended:
                time.sleep(0.5)
    future.result()


def plan_jobs(trainings: int, cores: int, memory: int, processes: int, threads: int | None) -> tuple[int, int]:
    """How many of the trainings to run at once on a CPU, and the threads of each process.

    Trainings side by side with a thread each do more than trainings in sequence with all threads. `cores` and `memory`,
    in bytes, are the machine's, and `processes` is a training's number. `threads` is the user's choice, or None.
    """
    jobs = max(1, min(trainings, cores // (processes * (threads or 1)), memory // MEMORY))
    return jobs, threads or max(1, cores // (jobs * processes))


def read_memory_limit(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The memory, in bytes, that this process may use: the machine's, or a container's limit where that is lower."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroups, version 2 and 1
        with suppress(OSError, ValueError):  # the file is missing, or says "max"
            limits.append(int((cgroups / name).read_text()))
    return min(limits)


def tabulate(shown: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> list[tuple[str, str, str]]:
    """A row for each experiment of dvc.api.exp_show: test MCC, validation MCC, and the name with changed settings.

    `settings` are the keys to compare with the commit's. The best test MCC comes first. Experiments that run, wait or
    have failed come last, with their state: DVC gives them the commit's MCCs, if it has some.
    """

    def get_state(row: Mapping[str, Any]) -> str:
        return "" if row["State"] in (None, "Success") else f" ({row['State'].lower()})"

    def get_mcc(row: Mapping[str, Any], name: str) -> float | None:
        mcc = row.get(name)
        return mcc if isinstance(mcc, float) and not get_state(row) else None

    commit = next(row for row in shown if row["typ"] == "baseline" and row["rev"] != "workspace")
    experiments = [row for row in shown if row["Experiment"]]
    experiments.sort(key=lambda row: -2.0 if (mcc := get_mcc(row, TEST_MCC)) is None else mcc, reverse=True)
    rows = []
    for row in experiments:
        test, validation = (
            "-" if (mcc := get_mcc(row, name)) is None else f"{mcc:.3f}" for name in (TEST_MCC, "validation_mcc")
        )
        changed = [f" {name}={_format(row[name])}" for name in settings if row[name] != commit[name]]
        name = f"{row['Experiment']}{get_state(row)}:{''.join(changed)}".removesuffix(":")
        rows.append((test, validation, name))
    return rows


def _format(value: object) -> str:
    """DVC gives all numbers as floats: 42.0 -> '42', 5e-05 -> '5e-05'."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _print_table() -> None:
    from dvc.api import exp_show  # takes a second: only here

    revision.read_commit()  # for git's own reason, where it refuses
    _require_readable_index()
    with _open_repository():
        rows = tabulate(exp_show(), list(params.flatten(params.load(paths.PARAMS))))
    if not rows:
        raise UserError("no experiment has run at this commit: `make demo` runs one")
    table = console.make_table(numbers=["test\nMCC", "validation\nMCC"])
    table.add_column("experiment: settings that are not the commit's", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.PlainConsole().print(table)


def main() -> None:
    match sys.argv[1:]:
        case ["demo", *arguments]:
            run_here({"demo": parse_settings(" ".join(arguments))})
        case ["sweep", *arguments] if arguments:
            run_experiments(combine_settings(" ".join(arguments)))
        case ["stashed", state, lock]:
            _run_stashed(state, lock)
        case ["table"]:
            _print_table()
        case _:
            raise UserError("which settings? make sweep SWEEP='train.epochs=2,3 seed=1,2'")


if __name__ == "__main__":
    run(main)
