"""The benchmarks measure what they say: their parts on a tiny BERT, against hand-computed values."""

import json
import sys
import time

import numpy as np
import pytest
import tiny
import torch
from processes import finished
from tiny import RECIPE
from transformers import BertForSequenceClassification

from benchmarks import methods, profile, sizes, speed, tutorial, workload
from cola.train import history, loop
from cola.train.checkpoint import Checkpointer

MINILM = "all-MiniLM-L6-v2"


def build_model():
    torch.manual_seed(3)
    changes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(tiny.config(**changes, _attn_implementation="eager"))


@pytest.mark.parametrize("length", [0, 64])
def test_this_training_goes_where_the_tutorials_loop_goes(length):
    table = tiny.sentences(20)
    train, reference, model = tiny.to_train_on(table), build_model(), build_model()
    expected = list(tutorial.fit(reference, train, RECIPE, 5, length))
    splits = {"train": train, "validation": tiny.to_train_on(table[:2])}
    with loop.prepare(model, splits, RECIPE, torch.float32, seed=5) as training:
        epochs = loop.fit(training, Checkpointer())
    assert history.step_table(epochs)["loss"].to_list() == pytest.approx(expected, rel=1e-4)
    assert len(expected) == 6
    for (name, weights), reference_weights in zip(model.named_parameters(), reference.parameters(), strict=True):
        if not name.endswith("key.bias"):  # their gradient is rounding: softmax ignores what shifts all scores alike
            torch.testing.assert_close(weights, reference_weights, rtol=1e-3, atol=1e-4)


def test_threads_wait_as_those_of_a_stage_do():
    """OpenMP reads how they wait as PyTorch loads: `cola` says it before any benchmark does so."""
    code = "import benchmarks, sys; print('cola' in sys.modules, 'torch' in sys.modules)"
    assert finished([sys.executable, "-c", code]).stdout == "True False\n"


def test_the_tutorial_pads_to_64():
    batch = tutorial.collate([[101, 7, 102], [101, 102]], torch.tensor([1, 0]))
    assert batch["input_ids"].shape == (2, 64)
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 2]


def test_sentences_are_as_long_as_colas():
    assert sum(workload.LENGTHS.values()) == 7695
    ((sentences, labels),) = workload.draw_batches(1, seed=0, size=5000)
    assert np.mean([len(ids) for ids in sentences]) == pytest.approx(363.4 / 32, rel=0.02)
    assert labels.shape == (5000,)
    short, long = (workload.draw_batches(1, seed=0, size=9, scale=scale)[0][0] for scale in (1, 2))
    assert [len(ids) for ids in long] == [2 * len(ids) for ids in short]


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        pytest.param(kind, method, marks=[pytest.mark.slow] * ("Trainer" in method))
        for kind, by_method in methods.METHODS.items()
        for method in by_method
    ],
)
def test_every_method_times_every_batch(kind, method, device):
    model = workload.build_model(tiny.config(vocab_size=7000), device)
    before = model.classifier.weight.detach().clone()
    with methods.METHODS[kind][method](model) as timed:
        seconds = timed(workload.draw_batches(3, seed=0))
    moved = (model.classifier.weight - before).abs().mean().item()
    # AdamW moves a weight by about the learning rate a step, whatever its gradient: 2e-5, which falls to 0 in Trainer.
    assert kind == "prediction" or 2e-5 < moved < 7e-5
    assert len(seconds) == 3
    assert all(0 < second < 60 for second in seconds)


def test_on_a_gpu_every_method_is_measured_by_itself_and_torch_compile_last():
    groups = [(group.kind, group.shape, group.methods) for group in speed.list_groups("cuda", ["roberta-base", MINILM])]
    assert groups[0] == ("training", "roberta-base", ["the tutorial's loop"])
    assert [methods for *_, methods in groups[-2:]] == [["transformers' Trainer, compiled"]] * 2
    assert len(groups) == 2 * (6 + 3)
    assert [(group.kind, len(group.methods)) for group in speed.list_groups("cpu", [MINILM])] == [
        ("training", 4),
        ("prediction", 3),
    ]


@pytest.mark.slow
def test_figures_are_saved_one_by_one_and_a_fault_costs_no_method_its_figures(tmp_path, monkeypatch, device):
    # Encoders that take no time; one cannot be built, so every method of it fails.
    shapes = {"bert": tiny.config(vocab_size=7000), "broken": tiny.config(hidden_size=15)}
    monkeypatch.setattr(workload, "SHAPES", shapes)
    monkeypatch.setattr(speed, "check_idle", lambda: None)
    path = tmp_path / "machine.json"
    groups = [
        speed.Group("training", "broken", ["bert-cola"]),
        speed.Group("training", "bert", ["the tutorial's loop", "bert-cola"]),
    ]
    for group in groups:
        speed.save(path, device, group, speed.compare(group, device, speed.Turns(rounds=2, warm_up=2, seconds=0.0)))
    results = json.loads(path.read_text())
    assert len(speed.tabulate(results, "training")) == 3
    training = results["training"]
    assert training["broken"] == {"bert-cola": {"fault": training["broken"]["bert-cola"]["fault"]}}
    assert "not a multiple of the number of attention heads" in training["broken"]["bert-cola"]["fault"]
    for figures in training["bert"].values():
        assert len(figures["rounds"]) == 2
        assert ("memory_gib" in figures) == (device.type == "cuda")


def test_a_ratio_is_the_median_of_the_rounds_ratios(tmp_path):
    path, group = tmp_path / "machine.json", speed.Group("training", "bert", [])
    figures = {
        "Trainer": {"seconds": 4.0, "rounds": [4.0, 3.0, 9.0]},
        "bert-cola": {"seconds": 2.0, "rounds": [2.0, 1.0, 5.0]},
    }
    speed.save(path, torch.device("cpu"), group, figures)
    speed.save(path, torch.device("cpu"), group, {"roofline": {"seconds": 0.5}})
    table = speed.tabulate(json.loads(path.read_text()), "training")
    assert table["method"].to_list() == ["Trainer", "bert-cola", "roofline"]
    assert table["ratio"].to_list() == [2.0, 1.0, 0.25]  # Trainer: the median of 2, 3 and 1.8


def test_a_kernels_time_counts_once(device):
    """On a GPU nothing but kernels and copies, whose time is less than that of the wall; on a CPU the operations."""
    with methods.train_fast(workload.build_model(tiny.config(vocab_size=7000), device)) as train:
        batches = workload.draw_batches(3, seed=0)
        train(batches)
        started = time.perf_counter()
        operations = profile.list_operations(train, batches, device)
        seconds = time.perf_counter() - started
    names = {name for name, *_ in operations}
    assert len(names) > 10
    assert any(name.startswith("aten::") for name in names) == (device.type == "cpu")
    assert 0 < sum(microseconds for _, microseconds, _ in operations) < 1e6 * seconds
    times = [microseconds for _, microseconds, _ in operations]
    assert times == sorted(times, reverse=True)


@pytest.mark.slow
def test_a_step_is_measured_at_the_sizes_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(sizes, "ENCODERS", {"tiny": (1, 64)})
    seconds, gib = sizes.measure(sizes.Sizes("tiny", sentences=4, length=2, micro_batch_tokens=16))
    assert 0 < seconds < 60
    assert 0.05 < gib < 50
    monkeypatch.setattr(sizes, "PICTURE", tmp_path / "cost.png")
    sizes.draw({"batch size, sentences": {4: 0.1, 8: 0.2}, "encoder": {"tiny": 0.1, "mini": 0.3}})
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_the_work_of_a_step_by_hand():
    sums, weights = speed.count_work(tiny.config(vocab_size=7000))
    # A layer's Linears have 4 * 16 * 16 + 2 * 16 * 24 = 1,792 weights. Of the last layer keys and values, 512 of them,
    # are for all of 363.4 tokens, its other 1,280 for 32; two sums a weight, forward and twice backward.
    assert sums == pytest.approx(6 * (363.4 * (1792 + 512) + 32 * 1280))
    # 5,584 words, 64 positions, 2 types; a layer's Linears, 104 biases and two LayerNorms; pooler and classifier.
    assert weights == (5584 + 64 + 2 + 2) * 16 + 2 * (1792 + 104 + 64) + 17 * 16 + 17 * 2
