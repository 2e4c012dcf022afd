import os
import threading
import time
from dataclasses import replace

import pytest
import torch

from cola.core.errors import UserError
from cola.train import checkpoint, distributed
from cola.train.checkpoint import Checkpointer
from cola.train.history import Epoch, Progress, Step

EPOCH = Epoch(1, 0.1 + 0.2, 0.5, 0.75, -0.25, 3.5, 1.0, 20, 90, [Step(1, 0.7, 2e-5, 1.5), Step(2, 0.6, 1e-5, 0.5)])
PROGRESS = Progress([EPOCH], [Step(3, 1 / 3, 5e-6, 2.0)], 1.25)


def optimizer(seed):
    torch.manual_seed(seed)
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]
    adam = torch.optim.AdamW(weights, fused=True)
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    adam.step()
    return adam


def state(adam):
    weights = adam.param_groups[0]["params"]
    return [
        *(weight.detach() for weight in weights),
        *(value for weight in weights for value in adam.state[weight].values()),
    ]


def test_all_that_training_needs_comes_back(tmp_path):
    one, other, path = optimizer(1), optimizer(2), tmp_path / "folder" / "one.safetensors"
    assert checkpoint.load(path, other) == Progress()
    checkpoint.save(path, one, replace(PROGRESS, best_weights=[torch.full((3, 2), 7.0), torch.ones(4)]))
    drawn = torch.rand(5)
    progress = checkpoint.load(path, other)
    best = progress.best_weights
    assert replace(progress, best_weights=[]) == PROGRESS
    assert torch.equal(best[0], torch.full((3, 2), 7.0))
    assert torch.equal(best[1], torch.ones(4))
    assert len(best) == 2
    assert torch.equal(torch.rand(5), drawn)
    assert len(state(other)) == 2 + 2 * 3
    for a, b in zip(state(one), state(other), strict=True):
        assert torch.equal(a, b)
    assert checkpoint.read_progress(path) == PROGRESS
    assert type(checkpoint.read_progress(path).epochs[0].steps[0]) is Step
    checkpoint.remove(path)
    assert checkpoint.load(path, other) == Progress()
    checkpoint.remove(path)  # of two trainings of one configuration, the other has removed it already


def test_a_checkpoint_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "one.safetensors"
    checkpoint.save(path, optimizer(1), PROGRESS)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match=r"one\.safetensors cannot be written: No space left on device"):
        checkpoint.save(path, optimizer(2), Progress())
    assert checkpoint.read_progress(path) == PROGRESS
    assert [file.name for file in tmp_path.iterdir()] == ["one.safetensors"]


def test_another_configuration_is_another_place(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FOLDER", tmp_path)
    file = tmp_path / "train.parquet"
    file.write_bytes(b"one")
    here = checkpoint.path_for({"seed": 1}, [file])
    assert here == checkpoint.path_for({"seed": 1}, [file])
    others = [checkpoint.path_for({"seed": 2}, [file]), checkpoint.path_for({"seed": 1}, [])]
    file.write_bytes(b"two")
    others.append(checkpoint.path_for({"seed": 1}, [file]))
    monkeypatch.setattr(torch, "__version__", "0.1")
    others.append(checkpoint.path_for({"seed": 1}, [file]))
    assert len({here, *others}) == 5


def test_what_nobody_resumed_for_a_week_is_deleted(tmp_path):
    old, young = tmp_path / "old.safetensors", tmp_path / "young.safetensors"
    for path, days in ((old, 8), (young, 6)):
        path.touch()
        os.utime(path, times=(0, time.time() - days * 24 * 3600))
    checkpoint.save(tmp_path / "one.safetensors", optimizer(1), PROGRESS)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.safetensors", "young.safetensors"]


def test_trainings_of_one_configuration_may_save_at_once(tmp_path):
    path, faults = tmp_path / "folder" / "one.safetensors", []

    def training(seed):
        try:
            for _ in range(20):
                checkpoint.save(path, adam[seed], PROGRESS)
                checkpoint.load(path, adam[seed])
        except Exception as error:
            faults.append(error)

    adam = [optimizer(seed) for seed in range(4)]
    threads = [threading.Thread(target=training, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert [file.name for file in path.parent.iterdir()] == ["one.safetensors"]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to go on; a save takes the seconds in clock["cost"]."""
    clock = {"now": 100.0, "cost": 0.0}
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: clock["now"])
    save = checkpoint.save

    def save_slowly(*arguments):
        clock["now"] += clock["cost"]
        save(*arguments)

    monkeypatch.setattr(checkpoint, "save", save_slowly)
    return clock


def test_a_training_loses_five_minutes_at_most_however_long_a_save_takes(tmp_path, clock):
    """Steps of 70 s, epochs of three steps, and a disk that takes 60 s for a save: steps 5, 10, 15 and 20 are saved."""
    clock["cost"] = 60.0
    adam, path, saved = optimizer(1), tmp_path / "one.safetensors", []
    checkpointer, progress = Checkpointer(path), Progress([EPOCH])
    checkpointer._cost = 60.0  # of an earlier save
    for step in range(1, 22):
        clock["now"] += 70
        progress.seconds = float(step)
        checkpointer.after_step(adam, progress)
        if step % 3 == 0:
            checkpointer.after_epoch(adam, progress)
        if path.exists() and checkpoint.read_progress(path).seconds == step:
            saved.append(step)
    assert saved == [5, 10, 15, 20]


def test_quick_epochs_are_saved_where_that_takes_a_twentieth_of_the_time(tmp_path, clock):
    """Epochs of 6 s, saves of 1 s: after the first epoch, and then after every fourth, when 24 s have passed."""
    clock["cost"] = 1.0
    adam, path, saved = optimizer(1), tmp_path / "one.safetensors", []
    checkpointer, progress = Checkpointer(path), Progress([EPOCH])
    for epoch in range(1, 11):
        clock["now"] += 6
        progress.seconds = float(epoch)
        checkpointer.after_epoch(adam, progress)
        if path.exists() and checkpoint.read_progress(path).seconds == epoch:
            saved.append(epoch)
    assert saved == [1, 5, 9]


def test_several_processes_agree_on_a_checkpoint_at_every_50th_step(tmp_path, monkeypatch):
    """Another process says that it is time: this one, whose time has not come, saves as well."""
    asked, path = [], tmp_path / "one.safetensors"
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce_max", lambda due, _: asked.append(due) or 1.0)
    checkpointer, adam = Checkpointer(path), optimizer(1)
    for steps in (49, 50, 51):
        checkpointer.after_step(adam, Progress(steps=[Step(1, 0.7, 2e-5, 1.5)] * steps))
    assert asked == [0.0]
    assert checkpoint.read_progress(path).steps_done == 50


def test_without_a_path_nothing_is_saved_and_nothing_is_there(clock):
    checkpointer, adam = Checkpointer(), optimizer(1)
    assert checkpointer.load(adam) == Progress()
    clock["now"] += 1000
    checkpointer.after_step(adam, PROGRESS)
