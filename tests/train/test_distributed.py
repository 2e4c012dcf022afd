"""The train stage on several processes, and on two machines of one process each: here, two folders."""

import os
import re
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
from processes import free_port, wait_for
from project import ROOT
from safetensors import safe_open
from safetensors.torch import load_file

from cola.core import files
from cola.core.errors import UserError
from cola.data import tables
from cola.train import distributed


def project(folder, dropout=0.0, **train):
    """What the train stage reads: 99 sentences, so that of 8 at a time the last batch has 3, fewer than 4 processes."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings |= {"device": "cpu", "precision": "float32"}
    settings["tokenize"]["max_length"] = 32  # the tiny encoder takes 64 tokens
    settings["train"] |= {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3} | train
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    source = {"name": "tiny", "revision": None, "files": {}, "license": "none", "citation": "none"}
    with files.atomic_folder(folder / "models/pretrained") as partial:
        tiny.encoder(partial, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
        hashes = {"model.safetensors": files.sha256(partial / "model.safetensors")}
        files.write_json(partial / "source.json", source | {"files": hashes})
    with files.atomic_folder(folder / "data/tokenized") as partial:
        for part, count in (("train", 99), ("validation", 21)):
            rows = tiny.arrow(tiny.sentences(count, seed=count))
            tables.write(partial / f"{part}.parquet", rows, source | {"labels": ["lower", "upper"]})
    (folder / "metrics").mkdir()
    return folder


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
    (tmp_path / "temporary").mkdir()
    printed = train(folder, TMPDIR=str(tmp_path / "temporary"))
    assert list((tmp_path / "temporary").glob("torchelastic*")) == []
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
    assert line == (
        "error: process 1 of the training was killed, maybe for want of memory; "
        "`dvc repro` goes on from its last checkpoint"
    )
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
def test_two_machines_train_as_two_processes_of_one(alone, tmp_path):
    port = free_port()
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    machines = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}
    other = start(there, PET_NODE_RANK="1", **machines)
    printed = train(here, PET_NODE_RANK="0", **machines)
    out, error = other.communicate(timeout=60)
    assert other.returncode == 0, out + error
    assert printed.count("epoch 1: ") == 1
    assert "epoch" not in out + error
    assert steps(here)["loss"].to_numpy() == pytest.approx(steps(alone)["loss"].to_numpy(), rel=1e-4)
    assert files.read_json(here / "metrics/timings.json")["processes"] == 2
    assert (here / "models/finetuned").exists()
    assert not (there / "models/finetuned").exists()
    assert not list((there / "metrics").iterdir())


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


def test_after_a_fault_no_process_waits_for_the_others(monkeypatch):
    calls = []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: calls.append(backend))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: calls.append("destroyed"))
    with pytest.raises(KeyError), distributed.process_group(torch.device("cpu")):
        raise KeyError
    assert calls == ["gloo"]
    with distributed.process_group(torch.device("cpu")):
        pass
    assert calls == ["gloo", "gloo", "destroyed"]
