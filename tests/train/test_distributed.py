"""The train stage on several processes, and on two machines, which are two folders here."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
import yaml
from processes import find_free_port, run_to_end, running, wait_for
from project import ROOT
from safetensors import safe_open
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from cola.core import files, paths
from cola.core.errors import UserError
from cola.data import tables
from cola.train import distributed

REMEDY = "`dvc repro` goes on from its last checkpoint"
SOURCE = {"name": "tiny", "revision": None, "files": {}, "license": "none", "citation": "none"}


def build_project(folder, dropout=0.0, **train):
    """The train stage's inputs: 99 sentences, so that the last batch of 8 has 3, fewer than 4 processes."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings |= {"device": "cpu", "precision": "float32"}
    settings["tokenize"]["max_length"] = 32  # the tiny encoder takes 64 tokens
    settings["train"] |= {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3} | train
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    shutil.copy(ROOT / "dvc.yaml", folder)
    write_encoder(folder / "models/pretrained", hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    write_tables(folder / "data/tokenized")
    (folder / "metrics").mkdir()
    return folder


def write_encoder(folder, **changes):
    with files.atomic_folder(folder) as partial:
        tiny.encoder(partial, **changes)
        hashes = {"model.safetensors": files.hash_file(partial / "model.safetensors")}
        files.write_json(partial / "source.json", SOURCE | {"files": hashes})


def write_tables(folder, seed=0):
    with files.atomic_folder(folder) as partial:
        for part, count in (("train", 99), ("validation", 21)):
            rows = tiny.arrow(tiny.sentences(count, seed=count + seed))
            tables.write(partial / f"{part}.parquet", rows, SOURCE | {"labels": ["lower", "upper"]})


def start(folder, **variables):
    """Start the stage as DVC does, without an MLflow server."""
    no_server = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT), "DVC_STAGE": "train"}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=folder,
        env=os.environ | no_server | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(folder, **variables):
    stage = start(folder, **variables)
    out, error = stage.communicate(timeout=300)
    assert stage.returncode == 0, out + error
    return out + error


def read_steps(folder):
    return pd.read_csv(folder / "metrics/steps.csv")


def measure_distance(folder, reference):
    """The largest difference of two models' weights."""
    weights, expected = (load_file(path / "models/finetuned/model.safetensors") for path in (folder, reference))
    return max((weights[name] - expected[name]).abs().max().item() for name in expected)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A project that one process has trained."""
    folder = build_project(tmp_path_factory.mktemp("reference"))
    train(folder)
    return folder


@pytest.mark.parametrize(
    "settings",
    [{"micro_batch_tokens": 20}, {"processes": 4}, {"processes": 2, "fast": False, "micro_batch_tokens": 30}],
    ids=str,
)
@pytest.mark.slow
def test_losses_do_not_depend_on_how_a_batch_is_shared(reference, tmp_path, settings):
    folder = build_project(tmp_path / "project", **settings)
    (tmp_path / "sitecustomize.py").write_text("import tempfile\ntempfile._candidate_tempdir_list = lambda: []\n")
    printed = train(folder, PYTHONPATH=f"{ROOT}:{tmp_path}")  # without a folder for temporary files
    assert not list((folder / ".dvc/tmp").glob("tmp*"))
    assert printed.count("epoch 1: ") == printed.count("Training: ") == printed.count("warning: ") == 1
    steps, expected = read_steps(folder), read_steps(reference)
    assert len(steps) == 2 * 13
    for column in expected:
        assert steps[column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-4)
    timings = files.read_json(folder / "metrics/timings.json")
    assert timings["processes"] == settings.get("processes", 1)
    assert 0.1 < timings["peak_memory_gib"] < 4
    # AdamW turns the rounding of a gradient near 0 into steps of full size: 26 of at most 1e-3.
    assert measure_distance(folder, reference) < 5e-3


@pytest.mark.slow
def test_a_killed_process_ends_the_training_which_then_continues_to_the_same_bytes(tmp_path):
    """With dropout, which differs between the processes."""
    settings = {"dropout": 0.1, "processes": 2, "epochs": 30}
    undisturbed = build_project(tmp_path / "undisturbed", **settings)
    killed = build_project(tmp_path / "killed", **settings)
    train(undisturbed)
    stage = start(killed)
    checkpoints = killed / ".dvc/tmp/checkpoints"
    wait_for(lambda: list(checkpoints.glob("*.safetensors")), 100)
    (second,) = [pid for pid, rank in find_ranks(killed).items() if rank == "1"]
    os.kill(second, signal.SIGKILL)
    died = time.monotonic()
    _, error = stage.communicate(timeout=60)
    assert time.monotonic() - died < 15
    assert stage.returncode == 1
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert line == f"error: process 1 of the training was killed, perhaps because memory ran out; {REMEDY}"
    assert "Traceback" not in error
    assert find_ranks(killed) == {}
    (checkpoint,) = checkpoints.glob("*.safetensors")
    with safe_open(checkpoint, "pt") as file:
        states = [file.get_tensor(f"random.cpu.{rank}") for rank in (0, 1)]
    assert not states[0].equal(states[1])
    assert "epoch 1: " in train(killed)
    steps = read_steps(killed)
    assert steps.equals(read_steps(undisturbed))
    assert measure_distance(killed, undisturbed) == 0
    assert not list(checkpoints.iterdir())
    assert steps["loss"].tail(130).mean() < 0.5 < 0.6 < steps["loss"].head(26).mean()  # it learns


def find_ranks(folder):
    """The rank of each training process that works in a folder, by process id."""
    ranks = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to a different user
            environment = (process / "environ").read_bytes().decode()
            if (process / "cwd").readlink() == folder and (rank := re.search(r"\0RANK=(\d+)\0", environment)):
                ranks[int(process.name)] = rank[1]
    return ranks


@pytest.mark.slow
def test_two_machines_train_together_only_with_the_same_inputs(reference, tmp_path):
    """Both print a line that names a difference, until the second machine has a copy of the first machine's files."""
    first, second = build_project(tmp_path / "first"), build_project(tmp_path / "second", learning_rate=2e-3)
    write_tables(second / "data/tokenized", seed=1)
    write_encoder(second / "models/pretrained", initializer_range=0.03)

    def run_both():
        machines = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(find_free_port())}
        stages = [start(folder, PET_NODE_RANK=rank, **machines) for rank, folder in (("0", first), ("1", second))]
        return [(*stage.communicate(timeout=300), stage.returncode) for stage in stages]

    for name, path in (
        ("seed or train of params.yaml", "params.yaml"),
        ("data/tokenized", "data/tokenized"),
        ("models/pretrained", "models/pretrained"),
    ):
        line = f"error: processes 0 and 1 differ in {name}: make it the same on every machine\n"
        assert [(error.splitlines(keepends=True)[-1], code) for _, error, code in run_both()] == [(line, 1)] * 2
        subprocess.run(["cp", "-r", first / path, (second / path).parent], check=True)
    (printed, _, first_code), (out, error, second_code) = run_both()
    assert first_code == second_code == 0, error
    assert printed.count("epoch 1: ") == 1
    assert "epoch" not in out + error
    assert read_steps(first)["loss"].to_numpy() == pytest.approx(read_steps(reference)["loss"].to_numpy(), rel=1e-4)
    assert files.read_json(first / "metrics/timings.json")["processes"] == 2
    assert (first / "models/finetuned").exists()
    assert not (second / "models/finetuned").exists()
    assert not list((second / "metrics").iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PET_MASTER_ADDR", ""),
        ("PET_MASTER_PORT", "http"),
        ("PET_MASTER_PORT", "99999"),
        ("PET_NNODES", "1:2"),
        ("PET_NODE_RANK", "2"),
    ],
)
def test_a_wrong_variable_of_torchrun_is_one_line(monkeypatch, tmp_path, name, value):
    right = {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": "29500", "PET_NNODES": "2", "PET_NODE_RANK": "1"}
    monkeypatch.setattr(paths, "SCRATCH", tmp_path)
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)  # and to this after the test
    for variable, setting in (right | {name: value, "OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(variable, setting)
    with pytest.raises(UserError, match=rf"{name}={value}( .*)?: .*docs/performance.md") as error:
        distributed.launch("nothing", 1)
    assert str(error.value).isprintable()


@pytest.mark.slow
def test_every_machine_gets_the_first_machines_file(tmp_path):
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom cola.train import distributed\n"
        "with distributed.process_group(cpu := torch.device('cpu')):\n"
        "    for name in ('sent', 'none'):\n        distributed.broadcast_file(Path(name), cpu)\n"
    )
    port = find_free_port()
    machines = []
    for rank in "01":
        (tmp_path / rank).mkdir()
        variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2"}
        variables |= {"RANK": rank, "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "run", "PYTHONPATH": str(ROOT)}
        for name in ("sent",) if rank == "0" else ("sent", "none"):
            (tmp_path / rank / name).write_bytes(bytes(range(256)) if rank == "0" else b"of an earlier training")
        machines.append(subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path / rank, env=os.environ | variables))
    assert [machine.wait(timeout=100) for machine in machines] == [0, 0]
    for rank in "01":
        assert (tmp_path / rank / "sent").read_bytes() == bytes(range(256))
        assert not (tmp_path / rank / "none").exists()


def test_processes_on_mps_are_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    refusal = "several processes cannot train on mps: set train.processes to 1, or device to cpu"
    with pytest.raises(UserError, match=f"^{refusal}$"), distributed.process_group(torch.device("mps")):
        pass


LOST, BUG = ("RuntimeError: closed by peer", "distributed_c10d.py"), ("KeyError: 'a'", "loop.py")
KILLED = "process 2 of the training was killed, perhaps because memory ran out"


@pytest.mark.parametrize(
    ("failures", "expected"),  # the exit code of each process, and the message and call stack in its error file
    [
        ([(1, LOST), (1, BUG)], RuntimeError("loop.py")),
        ([(-15, BUG), (1, LOST)], RuntimeError("loop.py")),
        ([(-9, None), (1, ("UserError: no such label", ""))], UserError("no such label")),
        ([(1, LOST), (-6, None), (-9, None)], UserError(f"{KILLED}; {REMEDY}")),
        ([(-15, None), (-11, None)], UserError(f"process 1 of the training was ended by SIGSEGV; {REMEDY}")),
        (
            [(-15, None), (1, LOST)],
            UserError(f"the training lost a process; the error is on that process's machine ({LOST[0]}); {REMEDY}"),
        ),
    ],
)
def test_the_launcher_reports_the_cause(tmp_path, failures, expected):
    by_rank = {}
    for rank, (code, fault) in enumerate(failures):
        file = tmp_path / f"{rank}.json"
        if fault:
            report = {"message": fault[0], "extraInfo": {"py_callstack": fault[1], "timestamp": "0"}}
            file.write_text(json.dumps({"message": report}))
        by_rank[rank] = ProcessFailure(local_rank=rank, pid=100 + rank, exitcode=code, error_file=str(file))
    reason = distributed._explain(ChildFailedError("train", by_rank))
    assert (type(reason), str(reason)) == (type(expected), str(expected))


@pytest.mark.slow
def test_a_fault_is_reported_even_if_its_process_ends_last(tmp_path):
    """The second process leaves the group, fails, and ends late, as on a busy machine."""
    (tmp_path / "two.py").write_text(
        "import atexit, time, torch\nfrom cola.train import distributed\n"
        "def main():\n    with distributed.process_group(torch.device('cpu')):\n"
        "        if distributed.rank():\n            torch.distributed.destroy_process_group()\n"
        "            atexit.register(time.sleep, 20)\n            raise KeyError('the cause')\n"
        "        distributed.all_reduce_sum([torch.zeros(1)])\n"
        "distributed.leave_errors_to_launcher(main)()\n"
    )
    launch = "from cola.train import distributed; distributed.launch('two', 2)"
    answer = run_to_end([sys.executable, "-c", launch], PYTHONPATH=str(tmp_path), DVC_ROOT=str(tmp_path))
    assert "KeyError: 'the cause'" in answer.stderr
    assert "peer" not in answer.stderr


@pytest.mark.slow
def test_control_c_ends_all_processes_with_one_line(tmp_path):
    (tmp_path / "two.py").write_text(
        "import time\nfrom cola.train import distributed\n"
        "distributed.leave_errors_to_launcher(lambda: (print('started', flush=True), time.sleep(60)))()\n"
    )
    code = "from cola.core import errors\nfrom cola.train import distributed\n"
    code += "errors.run(lambda: distributed.launch('two', 2))"
    log, variables = tmp_path / "log", {"PYTHONPATH": f"{tmp_path}:{ROOT}", "DVC_ROOT": str(tmp_path)}
    with running([sys.executable, "-c", code], log, env=os.environ | variables) as launcher:
        wait_for(lambda: log.read_text() == "started\nstarted\n", 60, log.read_text)
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(30) == 130
    assert [line for line in log.read_text().splitlines() if line] == ["started", "started", "interrupted"]
