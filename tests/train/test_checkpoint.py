import os
import threading
import time
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from processes import small_disk

from cola.core.errors import UserError
from cola.train import checkpoint, distributed
from cola.train.checkpoint import Checkpointer
from cola.train.history import Epoch, LossScale, Progress, Step

EPOCH = Epoch(1, 0.1 + 0.2, 0.5, 0.75, -0.25, 3.5, 1.0, 20, 90, [Step(1, 0.7, 2e-5, 1.5), Step(2, 0.6, 1e-5, 0.5)])
PROGRESS = Progress([EPOCH], [Step(3, 1 / 3, 5e-6, 2.0)], 1.25, LossScale(2.0**13, 7, 3))


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


def test_a_checkpoint_is_replaced_whole(tmp_path):
    path = tmp_path / "folder" / "one.safetensors"
    checkpoint.save(path, optimizer(1), PROGRESS)
    with small_disk(100), pytest.raises(UserError, match=r"one\.safetensors cannot be written: File too large"):
        checkpoint.save(path, optimizer(2), Progress())
    assert checkpoint.read_progress(path) == PROGRESS
    assert [file.name for file in path.parent.iterdir()] == ["one.safetensors"]


@pytest.mark.parametrize("content", [b"", b"cut", safetensors.torch.save({"a": torch.zeros(2)})])
def test_a_damaged_checkpoint_is_one_line_and_without_it_the_training_begins_anew(tmp_path, content):
    path = tmp_path / "one.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"one\.safetensors is damaged \(.*\): remove it, and .* begins anew$") as error:
        checkpoint.load(path, optimizer(1))
    assert str(error.value).isprintable()
    path.unlink()  # as the line says
    assert checkpoint.load(path, optimizer(1)) == Progress()


def test_a_folder_that_takes_no_lock_is_one_line(tmp_path):
    (tmp_path / "folder.lock").mkdir()
    with pytest.raises(UserError, match=r"folder\.lock cannot be written: Is a directory"):
        checkpoint.load(tmp_path / "folder" / "one.safetensors", optimizer(1))
    (tmp_path / "folder.lock").rmdir()
    assert checkpoint.load(tmp_path / "folder" / "one.safetensors", optimizer(1)) == Progress()


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


@pytest.mark.parametrize(
    ("step", "steps_in_an_epoch", "cost", "expected"),
    [
        (70, 3, 60.0, [3, 8, 13, 18]),  # after the first epoch, then where five minutes have passed
        (6, 1, 1.0, [1, 5, 9, 13, 17, 21]),  # where a save takes a twentieth of the time since the last one
    ],
)
def test_a_training_loses_five_minutes_at_most_and_saves_take_little_time(
    tmp_path, clock, step, steps_in_an_epoch, cost, expected
):
    """Steps and saves take so many seconds."""
    clock["cost"] = cost
    adam, path, saved = optimizer(1), tmp_path / "one.safetensors", []
    checkpointer, progress = Checkpointer(path), Progress([EPOCH])
    for number in range(1, 22):
        clock["now"] += step
        progress.seconds = float(number)
        checkpointer.after_step(adam, progress)
        if number % steps_in_an_epoch == 0:
            checkpointer.after_epoch(adam, progress)
        if path.exists() and checkpoint.read_progress(path).seconds == number:
            saved.append(number)
    assert saved == expected


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
