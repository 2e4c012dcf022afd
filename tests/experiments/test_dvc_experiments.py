"""Experiments through a real DVC, in a project that is a folder of a larger repository."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
import torch
from dvc.repo.experiments.executor.local import TempDirExecutor
from filelock import FileLock
from joblib import cpu_count
from processes import running, wait_for

from cola.core import paths
from cola.core.errors import UserError
from cola.experiments import dvc_experiments
from cola.experiments.overrides import apply_settings
from cola.report import revision

GIB = 2**30


def run_one(name, settings):
    return dvc_experiments.run_here({name: settings})[name]


def list_names():
    return sorted(revision.list_experiments(revision.read_commit()))


@pytest.mark.slow
def test_experiments_run_side_by_side_with_their_share_of_the_threads(project, capfd):
    jobs, threads = dvc_experiments.plan_jobs(2, cpu_count(), dvc_experiments.read_memory_limit(), 1, None)
    for again in (False, True):  # the second time from DVC's cache
        commits = dvc_experiments.run_experiments({"seed-1": {"seed": 1}, "seed-2": {"seed": 2}})
        printed = capfd.readouterr().out
        assert f"2 trainings, {jobs} at once, each with OMP_NUM_THREADS={threads}\n" in printed
        assert ("earlier experiments of these names are replaced: seed-1, seed-2\n" in printed) == again
        assert list_names() == ["seed-1", "seed-2"]
        assert [revision.read(Path("trained"), commits[name]) for name in list_names()] == ["seed: 1\n", "seed: 2\n"]
        assert [revision.read(Path("threads"), commits[name]) for name in list_names()] == [f"{threads}\n"] * 2


@pytest.mark.slow
def test_last_stages_leave_out_what_they_do_not_need_and_a_failure_is_an_error(project, capfd, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with pytest.raises(UserError, match=r"^no result of unlucky: the output above says why$"):
        dvc_experiments.run_experiments({"lucky": {"seed": 7}, "unlucky": {"seed": 13}}, ["train"])
    printed = capfd.readouterr().out
    assert f"each with OMP_NUM_THREADS={torch.get_num_threads()}\n" in printed, "the user's choice"
    assert "WARNING" not in printed, "DVC warns of outputs that are not made yet"
    assert list_names() == ["lucky"]
    with pytest.raises(UserError, match=r"^metrics/test.json is not in lucky .*; `dvc exp list` names"):
        revision.read(paths.TEST_METRICS, "lucky")
    assert "seed: 13" in (dvc_experiments.LOGS / "unlucky.log").read_text()


@pytest.mark.slow
def test_an_experiment_is_read_by_its_name_and_is_in_the_table(project, git, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(UserError, match=r"^no experiment has run at this commit: `make demo` runs one$"):
        dvc_experiments._print_table()
    git("branch", "demo")  # a name that git prefers
    corpus = f"~/it's mine (1)/é{'/folder' * 12}"
    for seed in (3, 5):
        commit = run_one("demo", {"seed": seed, "fetch.corpus": corpus})
        assert revision.read(paths.TEST_METRICS, "demo") == revision.read(paths.TEST_METRICS, commit)
        assert revision.read(paths.TEST_METRICS, "demo") == f'{{"mcc": 0.{seed} }}\n'
    assert list_names() == ["demo"]
    assert "WARNING" not in capfd.readouterr().err, "DVC warns of outputs that are not made yet"
    dvc_experiments._print_table()
    table = capfd.readouterr().out
    assert max(map(len, table.splitlines())) <= 80
    text = "".join(table.split())
    assert text.endswith("0.500-demo:seed=5fetch.corpus=" + corpus.replace(" ", "")), "it may be folded, not cut"
    for name in ("demo", "nobody"):
        revision.remove_experiment(name, revision.read_commit())
    assert list_names() == []


@pytest.mark.slow
def test_an_experiment_of_other_settings_is_no_result(project, git):
    """DVC drops an experiment whose name was taken meanwhile."""
    commit = run_one("seed-5", {"seed": 5})
    baseline, recipe = revision.read_commit(), apply_settings({"seed": 1})
    git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/seed-1", commit)
    with pytest.raises(UserError, match=r"^another experiment, with other settings, took the name seed-1: remove it"):
        dvc_experiments._find_results({"seed-1": recipe}, baseline, {})
    revision.run_program("dvc", "exp", "remove", "seed-1")
    assert run_one("seed-1", {"seed": 1}) == dvc_experiments._find_results({"seed-1": recipe}, baseline, {})["seed-1"]


def wait_until_asleep(log, seconds):
    """Wait until an experiment of seed 99 is in its minute; fail after so many seconds."""
    wait_for(lambda: "\nasleep\n" in log.read_text(), seconds, log.read_text)


@pytest.fixture
def command(project, tmp_path):
    """A command whose experiments take a minute, once the first trains, and its log."""
    experiments = {name: {"seed": 99} for name in ("seed-1", "seed-2")}
    code = f"from cola.experiments import dvc_experiments as it; it.run(lambda: it.run_experiments({experiments}))"
    log = tmp_path / "log"
    with running([sys.executable, "-c", code], log) as process:
        wait_until_asleep(log, 120)
        yield process, log


def find_trainings(project):
    """The processes of DVC that run an experiment of the project. Stages end with them (test_orphans.py)."""
    processes = psutil.process_iter(["cwd", "cmdline"])
    return [
        process
        for process in processes
        if "stashed" in (process.info["cmdline"] or []) and Path(process.info["cwd"] or "/").is_relative_to(project)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_experiments_end_with_their_command_and_can_be_run_again(project, command, number):
    process, log = command
    with pytest.raises(UserError, match=r"^another command runs experiments in this project: wait until it ends$"):
        dvc_experiments.run_experiments({"seed-1": {"seed": 1}})
    assert find_trainings(project)
    process.send_signal(number)  # to this process alone
    assert process.wait(60) == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert log.read_text().endswith("\ninterrupted\n")
    wait_for(lambda: not find_trainings(project), 30)
    names = ("seed-1", "seed-2")
    commits = dvc_experiments.run_experiments({name: {"seed": 1} for name in names})
    assert [revision.read(Path("trained"), commits[name]) for name in names] == ["seed: 1\n"] * 2
    assert not dvc_experiments.COPIES.exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])  # the first comes where a terminal is closed
def test_a_demo_that_is_ended_leaves_no_copy_of_the_project(project, tmp_path, number):
    command = [sys.executable, "-m", "cola.experiments.dvc_experiments", "demo", "seed=99"]
    with running(command, tmp_path / "log") as demo:
        wait_until_asleep(tmp_path / "log", 60)
        (copy,) = (project / dvc_experiments.COPIES).iterdir()
        os.killpg(demo.pid, number)
        assert demo.wait(30)
    assert not copy.exists()


@pytest.mark.slow
def test_sigterm_ends_a_demo_in_the_background_of_a_script(project, tmp_path):
    """There a command ignores SIGINT, and so does what it starts."""
    ignoring = ["sh", "-c", 'trap "" INT; exec "$0" "$@"', sys.executable]
    with running([*ignoring, "-m", "cola.experiments.dvc_experiments", "demo", "seed=99"], tmp_path / "log") as demo:
        wait_until_asleep(tmp_path / "log", 60)
        demo.terminate()
        assert demo.wait(30) == 130
    assert not find_trainings(project)


@pytest.mark.slow
def test_an_experiment_that_fails_replaces_no_result(project, capfd, monkeypatch):
    commit = run_one("demo", {"seed": 1})
    with pytest.raises(UserError, match=r"^no result of demo: the output above says why$"):
        run_one("demo", {"seed": 13})
    monkeypatch.setattr(TempDirExecutor, "init_git", Mock(side_effect=OSError(errno.ENOSPC, "full")))
    with pytest.raises(UserError, match=r"^no result of demo: "):
        run_one("demo", {"seed": 1})
    printed = capfd.readouterr().out
    assert f"error: {dvc_experiments.COPIES} cannot be written: No space left on device; fix that" in printed
    assert revision.find_commit("demo") == commit


@pytest.mark.slow
def test_an_experiment_waits_while_another_writes_to_the_run_cache(project, tmp_path):
    """DVC alone removes an empty file there, and the experiment that writes it fails."""
    run_one("demo", {"seed": 1})
    command = [sys.executable, "-m", "cola.experiments.dvc_experiments", "demo", "seed=1"]
    with FileLock(dvc_experiments.RUN_CACHE_LOCK):
        written = [file.with_name("written") for file in Path(".dvc/cache/runs").glob("*/*/*")]
        assert len(written) == 2
        for file in written:
            file.touch()
        with running(command, tmp_path / "log") as demo:
            wait_for(lambda: "Reproducing experiment" in (tmp_path / "log").read_text(), 60)
            with pytest.raises(subprocess.TimeoutExpired):
                demo.wait(3)
            assert all(file.exists() for file in written)


@pytest.mark.slow
def test_a_demo_under_nohup_goes_on_where_a_terminal_is_closed(project, tmp_path):
    command = ["nohup", sys.executable, "-m", "cola.experiments.dvc_experiments", "demo", "seed=99"]
    with running(command, tmp_path / "log") as demo:
        wait_until_asleep(tmp_path / "log", 60)
        os.killpg(demo.pid, signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            demo.wait(2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_edits_stay_in_the_workspace_while_experiments_are_stashed(project, git, tmp_path, number):
    edited = Path("params.yaml").read_text().replace("epochs: 4", "epochs: 3")
    Path("params.yaml").write_text(edited)
    branch, experiments = git("symbolic-ref", "HEAD"), {f"seed-{seed}": {"seed": seed} for seed in range(99)}
    code = f"from cola.experiments import dvc_experiments as it; it.run(lambda: it.run_experiments({experiments}))"
    with running([sys.executable, "-c", code], tmp_path / "log") as command:
        wait_for(lambda: Path("params.yaml").read_text() != edited, 120)
        os.killpg(command.pid, number)
        assert command.wait(60) == 130
    assert Path("params.yaml").read_text() == edited
    assert git("symbolic-ref", "HEAD") == branch
    assert git("stash", "list") == ""


@pytest.mark.slow
def test_locks_that_a_crash_has_left_are_refused_with_a_remedy(project):
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("epochs: 4", "epochs: 3"))
    Path(".dvc/tmp/exps").mkdir(exist_ok=True)
    index, dvcs = Path("../.git/index.lock"), Path(".dvc/tmp/exps/rwlock")
    for lock, message in (
        (index, "^git works in this project, or has crashed: when no git runs any more, (rm .*)$"),
        (dvcs, "^DVC refuses this: Unable to read RWLock-file .*: (rm .*)$"),
    ):
        lock.touch()
        with pytest.raises(UserError, match=message) as error:
            run_one("demo", {"seed": 1})
        assert "epochs: 3" in Path("params.yaml").read_text(), "git's stash does not have it"
        subprocess.run(re.search(message, str(error.value))[1], shell=True, check=True)  # noqa: S602
    assert run_one("demo", {"seed": 1}) == revision.find_commit("demo")


@pytest.mark.slow
def test_nothing_is_trained_where_dvc_would_lose_the_result(project, git, tmp_path, monkeypatch):
    git("commit", "--quiet", "--allow-empty", "--message", "second")
    git("clone", "--quiet", "--depth", "1", f"file://{project.parent}", str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow" / project.name)
    with pytest.raises(UserError, match=r"^this is a shallow clone, in which DVC loses experiments: git fetch --unsh"):
        run_one("demo", {"seed": 1})
    git("fetch", "--quiet", "--unshallow")
    assert list_names() == []
    assert run_one("demo", {"seed": 1}) == revision.find_commit("demo")
    clone = tmp_path / "shallow"
    for name, character in (("été", "é"), ("run#1", "#"), ("100%25", "%"), ("why?", "?"), ("{a}", "{")):
        clone = clone.rename(tmp_path / "larger" / name)
        monkeypatch.chdir(clone / project.name)
        fault = re.escape(
            f"/{name}/my project has {character} in it, with which DVC loses experiments: move the project"
        )
        with pytest.raises(UserError, match=f"{fault}$"):
            dvc_experiments.run_experiments({"seed-1": {"seed": 1}})
    with pytest.raises(UserError, match=r"^params.yaml has no setting train.epoch$"):
        dvc_experiments.run_experiments({"seed-1": {"seed": 1}, "seed-2": {"train.epoch": 3}})
    assert not (dvc_experiments.LOGS / "seed-1.log").exists()


@pytest.mark.slow
def test_experiments_need_all_objects_of_git(project, git, tmp_path, monkeypatch):
    for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        git("config", key, "true")
    git("commit", "--quiet", "--allow-empty", "--message", "second")
    git("clone", "--quiet", "--filter", "blob:none", f"file://{project.parent}", str(tmp_path / "partial"))
    monkeypatch.chdir(tmp_path / "partial" / project.name)
    with pytest.raises(
        UserError, match=r"^this is a partial clone, in which DVC's experiments fail: git config"
    ) as error:
        run_one("demo", {"seed": 1})
    subprocess.run(str(error.value).partition(": ")[2], shell=True, check=True)  # noqa: S602
    assert run_one("demo", {"seed": 1}) == revision.find_commit("demo")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["git config core.splitIndex true && git update-index --split-index", "git sparse-checkout set . --sparse-index"],
)
def test_an_index_that_dvc_cannot_read_is_refused_with_a_remedy(project, command):
    Path("other").mkdir()
    Path("other/file").touch()
    subprocess.run(command, shell=True, check=True)  # noqa: S602
    for use in (dvc_experiments._print_table, lambda: run_one("demo", {"seed": 1})):
        with pytest.raises(UserError, match=r"^DVC cannot read a split or a sparse index of git: run ") as error:
            use()
    split, sparse = re.findall("`(.*?)`", str(error.value))
    subprocess.run(split if "split" in command else sparse, shell=True, check=True)  # noqa: S602
    assert run_one("demo", {"seed": 1}) == revision.find_commit("demo")


@pytest.mark.parametrize(
    ("trainings", "cores", "memory", "processes", "chosen", "expected"),
    [
        (10, 64, 512, 1, None, (10, 6)),
        (18, 16, 24, 1, None, (6, 2)),  # memory for six
        (10, 16, 2, 1, None, (1, 16)),
        (10, 8, 512, 4, None, (2, 1)),
        (10, 8, 512, 1, 2, (4, 2)),
        (10, 2, 512, 1, 4, (1, 4)),
    ],
)
def test_as_many_at_once_as_cores_and_memory_allow(trainings, cores, memory, processes, chosen, expected):
    assert dvc_experiments.plan_jobs(trainings, cores, memory * GIB, processes, chosen) == expected


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_containers_memory_limit_counts(tmp_path, file):
    machine = dvc_experiments.read_memory_limit(tmp_path)
    assert machine > GIB
    (tmp_path / file).parent.mkdir(exist_ok=True)
    for text, limit in (("1073741824\n", GIB), ("max\n", machine), ("9223372036854771712\n", machine)):
        (tmp_path / file).write_text(text)
        assert dvc_experiments.read_memory_limit(tmp_path) == limit


def test_the_best_experiment_is_first_and_those_without_a_result_are_last():
    commit = {"rev": "main", "typ": "baseline", "Experiment": None, "State": None, "seed": 42.0, "fetch.corpus": "cola"}
    commit |= {"validation_mcc": 0.9, dvc_experiments.TEST_MCC: 0.9}  # a failed experiment is shown with these by DVC
    mccs = {"without": "!", "worse": -0.1, "better": 0.25}
    shown = [
        commit | {"rev": "workspace", "seed": 1.0},
        commit,
        commit | {"Experiment": "a", "State": "Queued", "seed": 4294967295.0, "fetch.corpus": "corpora/[neg]"},
        commit | {"Experiment": "b", "State": "Failed"},
        *(
            commit | {"Experiment": name, "State": state, "validation_mcc": mcc, dvc_experiments.TEST_MCC: mcc}
            for (name, mcc), state in zip(mccs.items(), (None, None, "Success"), strict=True)
        ),
    ]
    assert dvc_experiments.tabulate(shown, ["seed", "fetch.corpus"]) == [
        ("0.250", "0.250", "better"),
        ("-0.100", "-0.100", "worse"),
        ("-", "-", "a (queued): seed=4294967295 fetch.corpus=corpora/[neg]"),
        ("-", "-", "b (failed)"),
        ("-", "-", "without"),
    ]


@pytest.mark.parametrize("arguments", [[], ["sweep"], ["tables"]])
def test_a_sweep_needs_settings(monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["dvc_experiments", *arguments])
    with pytest.raises(UserError, match=r"^which settings\? make sweep SWEEP='train.epochs=2,3 seed=1,2'$"):
        dvc_experiments.main()
