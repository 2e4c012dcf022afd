"""Experiments through a real DVC: what is queued, under which names, on how many threads, and what a table shows."""

import os
import shutil
import subprocess

import dvc.api
import pytest
import torch
from dulwich.refs import check_ref_format
from dvc.exceptions import PathMissingError
from dvc.repo import Repo
from hypothesis import given
from hypothesis import strategies as st
from joblib import cpu_count
from project import ROOT

from cola.core.errors import UserError
from cola.experiments import dvc_queue

GIB = 2**30
DVC_YAML = """
stages:
  train:
    cmd: echo $OMP_NUM_THREADS > threads && grep -o '^seed. [0-9]*' params.yaml > trained && ! grep 13 trained
    params: [seed]
    outs: [trained, threads]
  test:
    cmd: echo '{"mcc":' 0.$(tr -dc 0-9 < trained) '}' > metrics/test.json
    deps: [trained]
    metrics: [metrics/test.json: {cache: false}]
metrics: [metrics/reference.json]
"""


@pytest.fixture
def project(tmp_path, environment, monkeypatch):
    """A project of two quick stages with the real params.yaml, in which this process is. A seed of 13 fails.

    The test MCC is 0.SEED.
    """
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    identity = (["config", "user.name", "test"], ["config", "user.email", "test@localhost"])
    subprocess.run(["git", "init", "--quiet"], check=True)
    Repo.init().close()
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/reference.json").write_text('{"mcc": 0.9}')
    (tmp_path / ".gitignore").write_text("/trained\n/threads\n")
    for command in (*identity, ["add", "--all"], ["commit", "--quiet", "--message", "small"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def names():
    command = ["dvc", "exp", "list", "--name-only"]
    return sorted(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.slow
def test_experiments_run_side_by_side_with_their_share_of_the_threads(project, capfd):
    jobs, threads = dvc_queue.plan(2, cpu_count(), dvc_queue.memory_limit(), 1, None)
    for _ in range(2):  # the second time from DVC's cache
        dvc_queue.train({"seed-1": ["seed=1"], "seed-2": ["seed=2"]})
        assert f"2 trainings, {jobs} at once, each with OMP_NUM_THREADS={threads}\n" in capfd.readouterr().out
        assert names() == ["seed-1", "seed-2"]
        assert [dvc.api.read("trained", rev=name) for name in names()] == ["seed: 1\n", "seed: 2\n"]
        assert [dvc.api.read("threads", rev=name) for name in names()] == [f"{threads}\n"] * 2


def test_last_stages_leave_out_what_they_do_not_need_and_a_failure_is_an_error(project, capfd, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with pytest.raises(UserError, match=r"^no result of unlucky: `dvc queue logs unlucky` says why$"):
        dvc_queue.train({"lucky": ["seed=7"], "unlucky": ["seed=13"]}, ["train"])
    assert f"each with OMP_NUM_THREADS={torch.get_num_threads()}\n" in capfd.readouterr().out, "the user's choice"
    assert names() == ["lucky"]
    with pytest.raises(PathMissingError):
        dvc.api.read("metrics/test.json", rev="lucky")


def test_an_experiment_that_runs_now_replaces_the_earlier_one_and_is_in_the_table(project, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(UserError, match=r"^no experiment has run at this commit: `make demo` runs one$"):
        dvc_queue._print_table()
    for seed in (3, 5):
        dvc_queue.run_now("demo", [f"seed={seed}"])
    assert names() == ["demo"]
    assert "WARNING" not in capfd.readouterr().err, "DVC warns of outputs that no one has made yet"
    dvc_queue._print_table()
    assert [line.split() for line in capfd.readouterr().out.splitlines()][4] == ["0.500", "-", "demo:", "seed=5"]
    dvc_queue.remove(["demo", "nobody"])
    assert names() == []


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("train.epoch=2", "DVC refuses this: Could not override 'train.epoch'. (a setting is a key and a value:"),
        ("minimal_pairs", "DVC refuses this: Error parsing override 'minimal_pairs' (a setting is a key and a value:"),
        ("train.epochs=0", "params.yaml: train.epochs: Input should be greater than or equal to 1 (got 0)"),
        ("seed=1,2", "DVC refuses this: Error merging override seed=1,2 (a setting is a key and a value:"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line_before_any_work(project, setting, fault):
    with pytest.raises(UserError) as error:
        dvc_queue.train({"seed-1": ["seed=1"], "wrong": [setting]})
    assert str(error.value).startswith(fault)
    with Repo() as repo:
        assert list(repo.experiments.celery_queue.iter_queued()) == []


@pytest.mark.parametrize(
    ("trainings", "cores", "memory", "processes", "chosen", "expected"),
    [
        (10, 2, 24, 1, None, (2, 1)),
        (10, 64, 512, 1, None, (10, 6)),
        (18, 16, 24, 1, None, (6, 2)),  # memory for six
        (10, 16, 2, 1, None, (1, 16)),
        (10, 8, 512, 4, None, (2, 1)),
        (10, 4, 512, 8, None, (1, 1)),
        (10, 8, 512, 1, 2, (4, 2)),
        (10, 2, 512, 1, 4, (1, 4)),
    ],
)
def test_as_many_at_once_as_cores_and_memory_allow(trainings, cores, memory, processes, chosen, expected):
    assert dvc_queue.plan(trainings, cores, memory * GIB, processes, chosen) == expected


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
@pytest.mark.parametrize(("text", "limit"), [("1073741824\n", GIB), ("max\n", None), ("9223372036854771712\n", None)])
def test_a_containers_limit_of_memory_counts(tmp_path, file, text, limit):
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine > GIB
    assert dvc_queue.memory_limit(tmp_path) == machine
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert dvc_queue.memory_limit(tmp_path) == (limit or machine)


def test_a_sweep_has_every_combination_under_a_name_that_tells_it():
    combinations = dvc_queue.combine(["train.epochs=2,3", "train.learning_rate=5.0e-5", "seed=1,7"])
    assert list(combinations.values()) == [
        ["train.epochs=2", "train.learning_rate=5e-05", "seed=1"],
        ["train.epochs=2", "train.learning_rate=5e-05", "seed=7"],
        ["train.epochs=3", "train.learning_rate=5e-05", "seed=1"],
        ["train.epochs=3", "train.learning_rate=5e-05", "seed=7"],
    ]
    assert [name[:-9] for name in combinations] == [
        "epochs-2-learning_rate-5e-05-seed-1",
        "epochs-2-learning_rate-5e-05-seed-7",
        "epochs-3-learning_rate-5e-05-seed-1",
        "epochs-3-learning_rate-5e-05-seed-7",
    ]
    with pytest.raises(UserError, match=r"^DVC refuses this: Error parsing override 'seed=1,,2'"):
        dvc_queue.combine(["seed=1,,2"])


PARTS = st.lists(st.text("ab1./-_~^:?*[\\ @{\né=", min_size=1, max_size=8).map(lambda text: f"seed={text}"), min_size=1)


@given(PARTS, PARTS)
def test_git_and_dvc_accept_every_name_and_no_other_settings_have_it(first, second):
    name = dvc_queue.name_experiment(*first)
    assert check_ref_format(f"refs/exps/ab/cdef/{name}".encode()), name  # what DVC calls
    assert "/" not in name
    assert len(name) <= 70
    assert (dvc_queue.name_experiment(*second) == name) == (first == second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["seed=1-epochs=2", "train.epochs=3"], ["seed=1", "train.epochs=2-epochs=3"]),
        (["fetch.corpus=a/b"], ["fetch.corpus=a_b"]),
        ([f"fetch.corpus=./{'a' * 60}/b"], [f"fetch.corpus=./{'a' * 60}/c"]),
        (["train.batch_size=16"], ["batch_size=16"]),
    ],
)
def test_settings_that_look_alike_have_different_names(first, second):
    assert dvc_queue.name_experiment(*first) != dvc_queue.name_experiment(*second)


COMMIT = {
    "rev": "main",
    "typ": "baseline",
    "Experiment": None,
    "seed": 42.0,
    "fetch.corpus": "cola",
    "train.fast": "True",
}


def experiment(name, mcc, **settings):
    row = {"Experiment": name, "typ": "branch_commit", "validation_mcc": mcc, dvc_queue.TEST_MCC: mcc}
    return COMMIT | row | settings


def test_the_best_experiment_is_first_and_what_has_no_result_comes_last():
    shown = [
        COMMIT | {"rev": "workspace", "seed": 1.0},
        COMMIT,
        {name: value for name, value in experiment("queued", 0.0, seed=4294967295.0).items() if "mcc" not in name},
        experiment("failed", "!"),
        experiment("worse", -0.1, **{"fetch.corpus": "corpora/[neg]", "train.fast": "False"}),
        experiment("better", 0.25),
    ]
    assert dvc_queue.tabulate(shown, ["seed", "fetch.corpus", "train.fast"]) == [
        ("0.250", "0.250", "better"),
        ("-0.100", "-0.100", "worse: fetch.corpus=corpora/[neg] train.fast=False"),
        ("-", "-", "queued: seed=4294967295"),
        ("-", "-", "failed"),
    ]


@pytest.mark.parametrize("arguments", [[], ["sweep"], ["tables"]])
def test_a_sweep_needs_settings(monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["dvc_queue", *arguments])
    with pytest.raises(UserError, match=r"^which settings\? make sweep SWEEP='train.epochs=2,3 seed=1,2'$"):
        dvc_queue.main()
