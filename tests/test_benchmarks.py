"""The benchmarks measure what they say: their parts on a tiny BERT, against hand-computed values."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from project import ROOT
from tiny import RECIPE
from transformers import BertForSequenceClassification

from benchmarks import methods, overhead, speed, tutorial, workload
from benchmarks.proofs import outcome
from cola.train import history, loop


def model():
    torch.manual_seed(3)
    changes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(tiny.config(**changes, _attn_implementation="eager"))


@pytest.mark.parametrize("length", [0, 64])
def test_this_training_goes_where_the_tutorials_loop_goes(length):
    table = tiny.sentences(20)
    labels = torch.tensor(table["label"].to_numpy())
    reference, found = model(), model()
    expected = list(tutorial.fit(reference, table["input_ids"].to_list(), labels, RECIPE, 5, length))
    epochs = list(loop.fit(found, tiny.to_train_on(table), tiny.to_train_on(table[:2]), RECIPE, torch.float32, 5))
    assert history.step_table(epochs)["loss"].to_list() == pytest.approx(expected, rel=1e-4)
    assert len(expected) == 6
    for (name, parameter), other in zip(found.named_parameters(), reference.parameters(), strict=True):
        if not name.endswith("key.bias"):  # their gradient is rounding: softmax ignores what shifts all scores alike
            torch.testing.assert_close(parameter, other, rtol=1e-3, atol=1e-4)


def test_threads_wait_as_those_of_a_stage_do():
    """OpenMP reads how they wait as PyTorch loads, and `cola` says it."""
    code = "import benchmarks.profile, sys; names = [*sys.modules]; print(names.index('cola') < names.index('torch'))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == "True\n"


def test_the_tutorial_pads_to_64():
    batch = tutorial.collate([[101, 7, 102], [101, 102]], torch.tensor([1, 0]))
    assert batch["input_ids"].shape == (2, 64)
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 2]


def test_sentences_are_as_long_as_colas():
    assert sum(workload.LENGTHS.values()) == 7695
    ((sentences, labels),) = workload.batches(1, seed=0, size=5000)
    assert np.mean([len(ids) for ids in sentences]) == pytest.approx(363.4 / 32, rel=0.02)
    assert labels.shape == (5000,)
    assert [len(ids) for ids in workload.batches(1, seed=0, size=9, scale=2)[0][0]] == [
        2 * len(ids) for ids in workload.batches(1, seed=0, size=9)[0][0]
    ]


@pytest.mark.parametrize(
    ("kind", "method"), [(kind, method) for kind, all_ in methods.METHODS.items() for method in all_]
)
def test_every_method_times_every_batch(kind, method):
    one = workload.model(tiny.config(vocab_size=7000), torch.device("cpu"))
    before = one.classifier.weight.detach().clone()
    with methods.METHODS[kind][method](one) as timed:
        seconds = timed(workload.batches(3, seed=0))
    moved = (one.classifier.weight - before).abs().mean().item()
    # AdamW moves a weight by about the learning rate a step, whatever its gradient: 2e-5, which falls to 0 in Trainer.
    assert kind == "prediction" or 2e-5 < moved < 7e-5
    assert len(seconds) == 3
    assert all(0 < second < 60 for second in seconds)


@pytest.mark.slow
def test_methods_are_compared_in_turn(monkeypatch, capsys):
    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(speed, "WARM_UP", 0.0)
    monkeypatch.setattr(speed, "TURN", 0.0)
    monkeypatch.setattr(speed.psutil, "cpu_percent", lambda _: 0.0)
    two = {name: methods.PREDICTION[name] for name in ("padded, in float32", "bert-cola")}
    monkeypatch.setitem(methods.METHODS, "prediction", two)
    found = speed.compare("prediction", "all-MiniLM-L6-v2")
    assert list(found) == ["padded, in float32", "bert-cola"]
    assert [len(result["rounds"]) for result in found.values()] == [1, 1]
    assert found["bert-cola"]["ratio"] == 1
    results = {"machine": "a machine", "training": {}, "prediction": {"all-MiniLM-L6-v2": found}}
    speed.show(json.loads(json.dumps(results)))
    assert "padded, in float32" in capsys.readouterr().out


def test_the_work_of_a_step_by_hand():
    sums, weights = speed.work_of_a_step(tiny.config(vocab_size=7000))
    # A layer's Linears have 4 * 16 * 16 + 2 * 16 * 24 = 1,792 weights. Of the last layer keys and values, 512 of them,
    # are for all of 363.4 tokens, its other 1,280 for 32; two sums a weight, forward and twice backward.
    assert sums == pytest.approx(6 * (363.4 * (1792 + 512) + 32 * 1280))
    # 5,584 words, 64 positions, 2 types; a layer's Linears, 104 biases and two LayerNorms; pooler and classifier.
    assert weights == (5584 + 64 + 2 + 2) * 16 + 2 * (1792 + 104 + 64) + 17 * 16 + 17 * 2


def test_equivalence_by_hand():
    # Means 0.5 and 0.51, variances 0.0001: the error is sqrt(2 * 0.0001 / 3) = 0.00816 with 4 degrees of freedom, whose
    # 95% quantile is 2.132: the interval is +-0.0174. Within 0.05: t = (0.05 - 0.01) / 0.00816 = 4.899, p = 0.0040.
    one, other = pd.Series([0.49, 0.50, 0.51]), pd.Series([0.50, 0.51, 0.52])
    difference, half, p = outcome.equivalence(one, other, 0.05)
    assert difference == pytest.approx(-0.01)
    assert half == pytest.approx(0.0174, abs=1e-4)
    assert p == pytest.approx(0.0040, abs=1e-4)
    assert outcome.equivalence(one, other, 0.01)[2] == pytest.approx(0.5)


def test_what_a_run_costs_beside_its_loop_is_its_seconds_less_the_loops():
    line = overhead.describe("dvc repro", 6.0, {"training_seconds": 5.0})
    assert line == "dvc repro: 6.0 s, 5.0 s of them the training loop: 1.0 s (20.0%) on top of it"
