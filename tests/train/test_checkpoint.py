import os
import shutil
import threading
import time
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from processes import small_disk
from project import ROOT

from cola.core import files
from cola.core.errors import UserError
from cola.train import checkpoint, distributed
from cola.train.checkpoint import Checkpointer
from cola.train.history import Epoch, LossScale, Progress, Step

EPOCH = Epoch(1, 0.1 + 0.2, 0.5, 0.75, -0.25, 3.5, 1.0, 20, 90, [Step(1, 0.7, 2e-5, 1.5), Step(2, 0.6, 1e-5, 0.5)])
PROGRESS = Progress([EPOCH], [Step(3, 1 / 3, 5e-6, 2.0)], 1.25, LossScale(2.0**13, 7, 3))


def build_optimizer(seed):
    torch.manual_seed(seed)
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]
    optimizer = torch.optim.AdamW(weights, fused=True)
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    return optimizer


def read_state(optimizer):
    weights = optimizer.param_groups[0]["params"]
    moments = [value for weight in weights for value in optimizer.state[weight].values()]
    return [*(weight.detach() for weight in weights), *moments]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "training.safetensors"


def test_a_checkpoint_restores_all_that_a_training_needs(path):
    saved, loaded = build_optimizer(1), build_optimizer(2)
    assert checkpoint.load(path, loaded) == Progress()
    checkpoint.save(path, saved, replace(PROGRESS, best_weights=[torch.full((3, 2), 7.0), torch.ones(4)]))
    random = torch.rand(5)
    progress = checkpoint.load(path, loaded)
    assert torch.equal(torch.rand(5), random)
    assert replace(progress, best_weights=[]) == PROGRESS
    assert [best.tolist() for best in progress.best_weights] == [[[7.0, 7.0]] * 3, [1.0] * 4]
    assert len(read_state(loaded)) == 2 + 2 * 3
    for restored, expected in zip(read_state(loaded), read_state(saved), strict=True):
        assert torch.equal(restored, expected)
    assert checkpoint.read_progress(path) == PROGRESS
    assert type(checkpoint.read_progress(path).epochs[0].steps[0]) is Step
    checkpoint.remove(path)
    assert checkpoint.load(path, loaded) == Progress()
    checkpoint.remove(path)  # a second training of the same configuration may have removed it


def test_a_checkpoint_is_replaced_whole(path):
    checkpoint.save(path, build_optimizer(1), PROGRESS)
    with small_disk(100), pytest.raises(UserError, match=r"training\.safetensors cannot be written: File too large"):
        checkpoint.save(path, build_optimizer(2), Progress())
    assert checkpoint.read_progress(path) == PROGRESS
    assert [file.name for file in path.parent.iterdir()] == ["training.safetensors"]


@pytest.mark.parametrize("content", [b"", b"cut", safetensors.torch.save({"a": torch.zeros(2)})])
def test_a_damaged_checkpoint_is_one_line_whose_remedy_helps(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"training\.safetensors is damaged \(.*\): remove it, ") as error:
        checkpoint.load(path, build_optimizer(1))
    assert str(error.value).isprintable()
    path.unlink()
    assert checkpoint.load(path, build_optimizer(1)) == Progress()


def test_a_lock_that_cannot_be_taken_is_one_line(path):
    path.parent.with_name("folder.lock").mkdir()
    with pytest.raises(UserError, match=r"folder\.lock cannot be written: Is a directory"):
        checkpoint.load(path, build_optimizer(1))


def test_every_configuration_has_its_path(tmp_path, monkeypatch):
    file = tmp_path / "train.parquet"
    file.write_bytes(b"content")
    path = checkpoint.find_path({"seed": 1}, [file])
    assert path == checkpoint.find_path({"seed": 1}, [file])
    paths = [path, checkpoint.find_path({"seed": 2}, [file]), checkpoint.find_path({"seed": 1}, [])]
    file.write_bytes(b"changed")
    paths.append(checkpoint.find_path({"seed": 1}, [file]))
    monkeypatch.setattr(torch, "__version__", "0.1")
    paths.append(checkpoint.find_path({"seed": 1}, [file]))
    assert len(set(paths)) == 5


@pytest.mark.parametrize("room", ["core", "data", "model", "train", "fetch", "evaluate", "report", "experiments"])
def test_an_edit_of_code_that_a_training_does_not_run_keeps_its_path(tmp_path, monkeypatch, room):
    shutil.copytree(ROOT / "cola", tmp_path / "cola")
    monkeypatch.setattr(files, "__file__", str(tmp_path / "cola/core/files.py"))
    before = checkpoint.find_path({}, [])
    (tmp_path / "cola" / room / "__init__.py").write_text("# A comment.\n")
    assert (checkpoint.find_path({}, []) == before) == (room in ("fetch", "evaluate", "report", "experiments"))


def test_a_save_deletes_checkpoints_that_nobody_continued_for_a_week(path):
    path.parent.mkdir()
    for name, days in (("old.safetensors", 8), ("young.safetensors", 6)):
        path.with_name(name).touch()
        os.utime(path.with_name(name), times=(0, time.time() - days * 24 * 3600))
    checkpoint.save(path, build_optimizer(1), PROGRESS)
    assert sorted(file.name for file in path.parent.iterdir()) == ["training.safetensors", "young.safetensors"]


def test_trainings_of_the_same_configuration_may_save_at_once(path):
    faults, optimizers = [], [build_optimizer(seed) for seed in range(4)]

    def save_and_load(optimizer):
        try:
            for _ in range(20):
                checkpoint.save(path, optimizer, PROGRESS)
                checkpoint.load(path, optimizer)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=save_and_load, args=(optimizer,)) for optimizer in optimizers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert [file.name for file in path.parent.iterdir()] == ["training.safetensors"]


@pytest.mark.parametrize(
    ("step", "steps_in_an_epoch", "cost", "expected"),
    [
        (70, 3, 60.0, [3, 8, 13, 18]),  # after the first epoch, then whenever five minutes have passed
        (6, 1, 1.0, [1, 5, 9, 13, 17, 21]),  # whenever a save takes a twentieth of the time since the last save
    ],
)
def test_a_kill_costs_five_minutes_at_most_and_saves_take_little_time(
    path, monkeypatch, step, steps_in_an_epoch, cost, expected
):
    """A step takes `step` seconds, a save `cost` seconds."""
    now, save, saved = [100.0], checkpoint.save, []

    def save_slowly(*arguments):
        now[0] += cost
        saved.append(number)
        save(*arguments)

    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(checkpoint, "save", save_slowly)
    optimizer, checkpointer = build_optimizer(1), Checkpointer(path)
    for number in range(1, 22):
        now[0] += step
        checkpointer.after_step(optimizer, PROGRESS)
        if number % steps_in_an_epoch == 0:
            checkpointer.after_epoch(optimizer, PROGRESS)
    assert saved == expected


def test_several_processes_agree_on_a_checkpoint_at_every_50th_step(path, monkeypatch):
    """A second process's checkpoint is due: this process, whose checkpoint is not due, saves too."""
    asked = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce_max", lambda due, _: asked.append(due) or 1.0)
    checkpointer, optimizer = Checkpointer(path), build_optimizer(1)
    for steps in (49, 50, 51):
        checkpointer.after_step(optimizer, Progress(steps=[Step(1, 0.7, 2e-5, 1.5)] * steps))
    assert asked == [0.0]
    assert checkpoint.read_progress(path).steps_done == 50


def test_without_a_path_nothing_is_saved(monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "save", lambda *_: pytest.fail("it saves"))
    checkpointer, optimizer = Checkpointer(), build_optimizer(1)
    assert checkpointer.load(optimizer) == Progress()
    checkpointer.after_step(optimizer, PROGRESS)
