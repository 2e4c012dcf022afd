"""The train stage on several processes, and on two machines of one process each: here, two folders."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
import yaml
from processes import finished, free_port, wait_for
from project import ROOT
from safetensors import safe_open
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from cola.core import files, paths
from cola.core.errors import UserError
from cola.data import tables
from cola.train import distributed

LAST = "`dvc repro` goes on from its last checkpoint"
SOURCE = {"name": "tiny", "revision": None, "files": {}, "license": "none", "citation": "none"}


def project(folder, dropout=0.0, **train):
    """What the train stage reads: 99 sentences, so that of 8 at a time the last batch has 3, fewer than 4 processes."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings |= {"device": "cpu", "precision": "float32"}
    settings["tokenize"]["max_length"] = 32  # the tiny encoder takes 64 tokens
    settings["train"] |= {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3} | train
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    write_encoder(folder / "models/pretrained", hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    write_tables(folder / "data/tokenized")
    (folder / "metrics").mkdir()
    return folder


def write_encoder(folder, **changes):
    with files.atomic_folder(folder) as partial:
        tiny.encoder(partial, **changes)
        hashes = {"model.safetensors": files.sha256(partial / "model.safetensors")}
        files.write_json(partial / "source.json", SOURCE | {"files": hashes})


def write_tables(folder, seed=0):
    with files.atomic_folder(folder) as partial:
        for part, count in (("train", 99), ("validation", 21)):
            rows = tiny.arrow(tiny.sentences(count, seed=count + seed))
            tables.write(partial / f"{part}.parquet", rows, SOURCE | {"labels": ["lower", "upper"]})


def start(folder, **variables):
    """The stage, as DVC starts it there; MLflow is away."""
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT), "DVC_STAGE": "train"}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=folder,
        env=os.environ | away | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(folder, **variables):
    stage = start(folder, **variables)
    out, error = stage.communicate(timeout=300)
    assert stage.returncode == 0, out + error
    return out + error


def steps(folder):
    return pd.read_csv(folder / "metrics/steps.csv")


def distance(one, other):
    """Of two trained models, in the largest of their weights' differences."""
    one, other = (load_file(folder / "models/finetuned/model.safetensors") for folder in (one, other))
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Trained by one process."""
    folder = project(tmp_path_factory.mktemp("alone"))
    train(folder)
    return folder


@pytest.mark.slow
def test_the_models_tokenizer_cuts_to_what_the_model_was_trained_for(alone):
    assert files.read_json(alone / "models/finetuned/tokenizer_config.json")["model_max_length"] == 32


@pytest.mark.parametrize(
    "settings",
    [
        {"processes": 2},
        {"micro_batch_tokens": 20},
        {"processes": 4},
        {"processes": 2, "fast": False, "micro_batch_tokens": 30},
    ],
    ids=str,
)
@pytest.mark.slow
def test_however_a_batch_is_shared_the_losses_are_the_same(alone, tmp_path, settings):
    folder = project(tmp_path / "project", **settings)
    (tmp_path / "sitecustomize.py").write_text("import tempfile\ntempfile._candidate_tempdir_list = lambda: []\n")
    printed = train(folder, PYTHONPATH=f"{ROOT}:{tmp_path}")  # no folder for temporary files can be written to
    assert not list((folder / ".dvc/tmp").glob("tmp*"))
    assert printed.count("epoch 1: ") == printed.count("Training: ") == printed.count("warning: ") == 1
    found, expected = steps(folder), steps(alone)
    assert len(found) == 2 * 13
    for column in expected:
        assert found[column].to_numpy() == pytest.approx(expected[column].to_numpy(), rel=1e-4)
    for name in ("train.json", "history.csv"):
        assert (folder / "metrics" / name).exists()
    timings = files.read_json(folder / "metrics/timings.json")
    assert timings["processes"] == settings.get("processes", 1)
    assert 0.1 < timings["peak_memory_gib"] < 4
    # AdamW turns the rounding of a gradient near 0 into steps of full size: 26 of at most 1e-3.
    assert distance(folder, alone) < 5e-3


@pytest.mark.slow
def test_with_dropout_each_process_draws_its_own(tmp_path):
    """One that is killed ends the others at once, and the training goes on to the bytes of an undisturbed one."""
    settings = {"dropout": 0.1, "processes": 2, "epochs": 30}
    undisturbed, killed = project(tmp_path / "undisturbed", **settings), project(tmp_path / "killed", **settings)
    train(undisturbed)
    stage = start(killed)
    checkpoints = killed / ".dvc/tmp/checkpoints"
    wait_for(lambda: list(checkpoints.glob("*.safetensors")), 100)
    (second,) = [pid for pid, rank in ranks(killed).items() if rank == "1"]
    os.kill(second, signal.SIGKILL)
    died = time.monotonic()
    _, error = stage.communicate(timeout=60)
    assert time.monotonic() - died < 15
    assert stage.returncode == 1
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert line == f"error: process 1 of the training was killed, perhaps because memory ran out; {LAST}"
    assert "Traceback" not in error
    assert ranks(killed) == {}
    (checkpoint,) = checkpoints.glob("*.safetensors")
    with safe_open(checkpoint, "pt") as file:
        states = [file.get_tensor(f"random.cpu.{rank}") for rank in (0, 1)]
    assert not states[0].equal(states[1])
    printed = train(killed)
    assert "epoch 1: " in printed
    assert steps(killed).equals(steps(undisturbed))
    assert distance(killed, undisturbed) == 0
    assert not list(checkpoints.iterdir())
    # It learns as one process does.
    assert steps(killed)["loss"].tail(130).mean() < 0.5 < 0.6 < steps(killed)["loss"].head(26).mean()


def ranks(folder):
    """The rank of each of the training's processes that work in a folder, by process id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().decode()
            if (process / "cwd").readlink() == folder and (rank := re.search(r"\0RANK=(\d+)\0", environment)):
                found[int(process.name)] = rank[1]
        except OSError:  # it has ended, or is another's
            continue
    return found


@pytest.mark.slow
def test_two_machines_with_the_same_inputs_train_as_two_processes_of_one(alone, tmp_path):
    """What differs is refused on both machines in a line that names it, until it is copied to the second."""
    here, there = project(tmp_path / "here"), project(tmp_path / "there", learning_rate=2e-3)
    for name in ("data/tokenized", "models/pretrained"):
        shutil.rmtree(there / name)
    write_tables(there / "data/tokenized", seed=1)
    write_encoder(there / "models/pretrained", initializer_range=0.03)

    def answers():
        machines = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(free_port())}
        stages = [
            start(folder, PET_NODE_RANK=rank, **machines) for rank, folder in zip("01", (here, there), strict=True)
        ]
        return [(*stage.communicate(timeout=100), stage.returncode) for stage in stages]

    for name, path in (
        ("seed or train of params.yaml", "params.yaml"),
        ("data/tokenized", "data/tokenized"),
        ("models/pretrained", "models/pretrained"),
    ):
        line = f"error: processes 0 and 1 differ in {name}: make it the same on every machine\n"
        assert [(error.splitlines(keepends=True)[-1], code) for _, error, code in answers()] == [(line, 1)] * 2
        subprocess.run(["cp", "-r", here / path, (there / path).parent], check=True)  # as the line says
    (printed, _, code), (out, error, other_code) = answers()
    assert code == other_code == 0, error
    assert printed.count("epoch 1: ") == 1
    assert "epoch" not in out + error
    assert steps(here)["loss"].to_numpy() == pytest.approx(steps(alone)["loss"].to_numpy(), rel=1e-4)
    assert files.read_json(here / "metrics/timings.json")["processes"] == 2
    assert (here / "models/finetuned").exists()
    assert not (there / "models/finetuned").exists()
    assert not list((there / "metrics").iterdir())


RIGHT = {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": "29500", "PET_NNODES": "2", "PET_NODE_RANK": "1"}
WRONG = {
    "PET_MASTER_ADDR": [""],
    "PET_MASTER_PORT": ["http", "99999"],
    "PET_NNODES": ["1:2"],
    "PET_NODE_RANK": ["", "2"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_machines_that_are_described_wrongly_are_one_line(monkeypatch, tmp_path, name, value):
    monkeypatch.setattr(paths, "SCRATCH", tmp_path)
    for key, entry in (RIGHT | {name: value, "OMP_NUM_THREADS": "1"}).items():
        monkeypatch.setenv(key, entry)
    with pytest.raises(UserError, match=rf"{name}={value}( .*)?: .*docs/performance.md") as error:
        distributed.launch("nothing", 1)
    assert str(error.value).isprintable()


def test_every_machine_gets_the_first_ones_file(tmp_path):
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom cola.train import distributed\n"
        "with distributed.process_group(cpu := torch.device('cpu')):\n"
        "    for name in ('sent', 'none'):\n        distributed.broadcast_file(Path(name), cpu)\n"
    )
    port = free_port()
    machines = []
    for rank in "01":
        (tmp_path / rank).mkdir()
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2"}
        where |= {"RANK": rank, "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "run", "PYTHONPATH": str(ROOT)}
        for name in ("sent",) if rank == "0" else ("sent", "none"):
            (tmp_path / rank / name).write_bytes(bytes(range(256)) if rank == "0" else b"of an earlier training")
        machines.append(subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path / rank, env=os.environ | where))
    assert [machine.wait(timeout=100) for machine in machines] == [0, 0]
    for rank in "01":
        assert (tmp_path / rank / "sent").read_bytes() == bytes(range(256))
        assert not (tmp_path / rank / "none").exists()


@pytest.mark.slow
def test_what_any_process_says_is_one_line(tmp_path):
    folder = project(tmp_path / "project", processes=2)
    (folder / "data/tokenized/train.parquet").write_bytes(b"changed")
    stage = start(folder)
    _, error = stage.communicate(timeout=100)
    assert stage.returncode == 1
    assert error == "error: data/tokenized/train.parquet is not as it was written; `dvc repro` puts it right\n"


def test_processes_on_mps_are_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    refusal = "several processes cannot train on mps: set train.processes to 1, or device to cpu"
    with pytest.raises(UserError, match=f"^{refusal}$"), distributed.process_group(torch.device("mps")):
        pass


LOST, BUG = ("RuntimeError: closed by peer", "distributed_c10d.py"), ("KeyError: 'a'", "loop.py")
KILLED = "process 2 of the training was killed, perhaps because memory ran out"


@pytest.mark.parametrize(
    ("failures", "expected"),  # exit code of each process, and the message and call stack that it left
    [
        ([(1, LOST), (1, BUG)], RuntimeError("loop.py")),
        ([(-15, BUG), (1, LOST)], RuntimeError("loop.py")),
        ([(-9, None), (1, ("UserError: no such label", ""))], UserError("no such label")),
        ([(1, LOST), (-6, None), (-9, None)], UserError(f"{KILLED}; {LAST}")),
        ([(-15, None), (-11, None)], UserError(f"process 1 of the training was ended by SIGSEGV; {LAST}")),
        (
            [(-15, None), (1, LOST)],
            UserError(f"the training lost a process; the error is on that process's machine ({LOST[0]}); {LAST}"),
        ),
    ],
)
def test_the_launcher_reports_the_cause_and_not_who_lost_a_peer(tmp_path, failures, expected):
    """Failures as torchrun reads them, from the error files of its processes."""
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
def test_a_fault_is_reported_though_its_peer_ended_before_it(tmp_path):
    """The second process leaves its peer, fails, and ends late, as on a busy machine."""
    (tmp_path / "two.py").write_text(
        "import atexit, time, torch\nfrom cola.train import distributed\n"
        "def main():\n    with distributed.process_group(torch.device('cpu')):\n"
        "        if distributed.rank():\n            torch.distributed.destroy_process_group()\n"
        "            atexit.register(time.sleep, 20)\n            raise KeyError('the cause')\n"
        "        distributed.all_reduce_sum([torch.zeros(1)])\n"
        "distributed.leave_errors_to_launcher(main)()\n"
    )
    launch = "from cola.train import distributed; distributed.launch('two', 2)"
    answer = finished([sys.executable, "-c", launch], PYTHONPATH=str(tmp_path), DVC_ROOT=str(tmp_path))
    assert "KeyError: 'the cause'" in answer.stderr
    assert "peer" not in answer.stderr
