"""The benchmarks' methods and figures, with a tiny BERT and values worked out by hand."""

import contextlib
import itertools
import json
import sys
import time

import numpy as np
import pytest
import tiny
import torch
from processes import run_to_end
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import methods, profile, sizes, speed, tutorial, workload
from benchmarks.proofs import outcome, step
from cola.model.device import choose_precision

MINILM = "all-MiniLM-L6-v2"


def test_cola_sets_how_threads_wait_before_pytorch_loads():
    code = "import benchmarks, sys; print('cola' in sys.modules, 'torch' in sys.modules)"
    assert run_to_end([sys.executable, "-c", code]).stdout == "True False\n"


def test_the_tutorial_pads_to_64():
    batch = tutorial.collate([[101, 7, 102], [101, 102]], torch.tensor([1, 0]))
    assert batch["input_ids"].shape == (2, 64)
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 2]


def test_sentences_are_as_long_as_colas_or_longer_by_a_factor():
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
    # A step of AdamW moves a weight by about the learning rate: 2e-5, which falls to 0 in Trainer.
    assert kind == "prediction" or 2e-5 < moved < 7e-5
    assert len(seconds) == 3
    assert all(0 < second < 60 for second in seconds)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["training", "prediction"])
def test_trainer_multiplies_in_the_pipelines_precision(kind, device):
    """A processor without units for bfloat16 emulates it, which takes many times as long as float32."""
    model, precisions = workload.build_model(tiny.config(vocab_size=7000), device), set()
    model.classifier.register_forward_hook(lambda _module, _inputs, logits: precisions.add(logits.dtype))
    with methods.METHODS[kind]["transformers' Trainer"](model) as timed:
        timed(workload.draw_batches(1, seed=0))
    assert precisions == {choose_precision("auto", device)}


def test_methods_take_turns_and_torch_compile_is_last():
    tasks = speed.list_tasks("cuda", [MINILM, "roberta-base"], rounds=1)
    assert len(tasks) == 2 * (6 + 3)
    assert [task.method for task in tasks[-2:]] == ["transformers' Trainer, compiled"] * 2
    tasks = speed.list_tasks("cpu", [MINILM], rounds=3)
    assert len(tasks) == 3 * (4 + 1 + 3)  # training, roofline, prediction
    assert [(task.method, task.turn) for task in tasks[4:7]] == [
        ("roofline", 0),
        ("the tutorial's loop", 1),
        ("transformers' Trainer", 1),
    ]


@pytest.mark.slow
def test_a_turn_is_measured_in_a_new_process_and_a_fault_is_a_figure(device):
    turns = speed.Turns(rounds=1, warm_up=2, seconds=0.0)
    tasks = [speed.Task("training", "bert", method, 0) for method in ("roofline", "bert-cola")]
    for task in tasks[device.type != "cpu" :]:
        figures = speed.measure_in_new_process(task, tiny.config(vocab_size=7000), device.type, turns)
        assert 0 < figures["seconds"] < 60
        assert ("memory_gib" in figures) == (device.type == "cuda")
    figures = speed.measure_in_new_process(tasks[1], tiny.config(hidden_size=15), device.type, turns)
    assert "not a multiple of the number of attention heads" in figures["fault"]


def test_a_ratio_is_the_median_of_the_rounds_ratios(tmp_path):
    path, rounds = tmp_path / "machine.json", {"Trainer": [4.0, 3.0, 9.0], "bert-cola": [2.0, 1.0, 5.0]}
    for _ in range(2):  # the second benchmark replaces the figures of the first
        for turn, method in itertools.product(range(3), rounds):
            speed.save(path, "CPU", speed.Task("training", "bert", method, turn), {"seconds": rounds[method][turn]})
    speed.save(path, "CPU", speed.Task("training", "bert", "broken", 0), {"fault": "no memory"})
    table = speed.tabulate(json.loads(path.read_text()), "training")
    assert table["method"].to_list() == ["Trainer", "bert-cola", "broken"]
    assert table["seconds"].to_list()[:2] == [4.0, 2.0]
    assert table["ratio"].to_list()[:2] == [2.0, 1.0]  # Trainer: the median of 2, 3 and 1.8
    assert table["fault"][2] == "no memory"


def test_a_ratio_pairs_the_rounds_of_one_benchmark_that_did_not_fail(tmp_path):
    path = tmp_path / "machine.json"

    def save(method, turn, **figures):
        speed.save(path, "CPU", speed.Task("training", "bert", method, turn), figures)
        return json.loads(path.read_text())["training"]["bert"]

    rounds = [("Trainer", [2.0, 3.0, 60.0]), ("bert-cola", [2.0, None, 60.0])]
    for turn in range(3):
        for method, seconds in rounds:
            saved = save(method, turn, **({"seconds": seconds[turn]} if seconds[turn] else {"fault": "no memory"}))
    assert saved["Trainer"] == {"seconds": 3.0, "rounds": [2.0, 3.0, 60.0], "ratio": 1.0}
    assert saved["bert-cola"]["rounds"] == [2.0, None, 60.0]
    assert save("Trainer", 0, seconds=8.0) == {"Trainer": {"seconds": 8.0, "rounds": [8.0]}}, "of the next benchmark"


def test_a_kernels_time_counts_once(device):
    """On a GPU only kernels and copies count, which take less than the wall's time; on a CPU the operations."""
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


class ProductTypes(TorchDispatchMode):
    """Collects the types of the matrices that PyTorch multiplies."""

    def __init__(self):
        super().__init__()
        self.types = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function in outcome.PRODUCTS:
            self.types.append(arguments[0].dtype)
        return function(*arguments, **options or {})


def test_all_float16_products_of_a_step_can_be_computed_in_float32():
    model = workload.build_model(tiny.config(vocab_size=7000), torch.device("cpu")).eval()
    (batch,) = workload.draw_batches(1, seed=0)
    expected = step.step_padded(model, batch, torch.float32)
    deviations, types = [], []
    for mode in (contextlib.nullcontext(), outcome.MultiplyInFloat32()):
        with ProductTypes() as products, mode:
            deviations.append(step.measure_deviation(step.step_packed(model, batch, torch.float16), expected))
        types.append(products.types)
    assert [torch.float16 in multiplied for multiplied in types] == [True, False]
    assert len(types[0]) == len(types[1]) > 20
    assert deviations[1] == pytest.approx(deviations[0], rel=0.5)
    assert max(deviations[1]) < 0.01


@pytest.mark.slow
def test_sizes_measures_a_step_and_draws_a_picture(monkeypatch, tmp_path):
    four, parts = sizes.Sizes("tiny", sentences=4), sizes.Sizes("tiny", sentences=4, length=2, micro_batch_tokens=16)
    monkeypatch.setattr(sizes, "PICTURES", {"batch size, sentences": {4: four}, "encoder": {"tiny": four}})
    monkeypatch.setattr(sizes, "MEMORY", [parts])
    monkeypatch.setattr(sizes, "RESULTS", tmp_path / "sizes.csv")
    monkeypatch.setattr(sizes, "PICTURE", tmp_path / "cost.png")
    monkeypatch.setattr(sys, "argv", ["sizes"])
    sizes.main()
    measured = sizes.read_results()
    assert measured.keys() == {four, parts}
    assert all(0 < cost.seconds < 60 and 0.05 < cost.peak_gib < 50 for cost in measured.values())
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_the_operations_of_a_step():
    operations, weights = speed.count_work(tiny.config(vocab_size=7000))
    # A layer's Linears have 4 * 16 * 16 + 2 * 16 * 24 = 1,792 weights. The last layer uses 512 of them, for keys and
    # values, for all 363.4 tokens, and 1,280 for 32 tokens. A weight takes two operations forward and four backward.
    assert operations == pytest.approx(6 * (363.4 * (1792 + 512) + 32 * 1280))
    # 5,584 words, 64 positions, 2 types, LayerNorm; each layer: Linears, 104 biases, 2 LayerNorms; pooler; classifier.
    assert weights == (5584 + 64 + 2 + 2) * 16 + 2 * (1792 + 104 + 64) + 17 * 16 + 17 * 2
