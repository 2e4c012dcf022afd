"""The statistics of several seeds."""

import json
import sys
from pathlib import Path

import pytest
from results import DEMO, REFERENCES, SOURCE, TUTORIAL

from cola.core import files, params, paths
from cola.core.errors import UserError
from cola.experiments import seeds
from cola.report import mlflow_logger, references

SETTINGS = params.load(Path(__file__).parents[2] / "params.yaml")


def test_the_summary_of_three_seeds_by_hand():
    summary = seeds.summarize({1: 0.50, 2: 0.54, 3: 0.58}, TUTORIAL, SETTINGS, REFERENCES)
    assert summary["mcc"] == {"1": 0.50, "2": 0.54, "3": 0.58}
    assert (summary["mean"], summary["standard_deviation"]) == pytest.approx((0.54, 0.04))
    # Student's t of two degrees of freedom is 4.302653 at 97.5% (from a printed table): 0.54 +- t * 0.04 / sqrt(3)
    assert summary["confidence_interval"] == pytest.approx([0.440634, 0.639366], abs=1e-6)
    assert summary["prediction_interval"] == pytest.approx([0.341269, 0.738731], abs=1e-6)  # +- t * 0.04 * sqrt(4 / 3)
    assert summary["references"] == {"the tutorial": [0.498], "3 public runs of its recipe": [0.52, 0.54, 0.56]}
    assert summary["comparison"] == references.compare([0.50, 0.54, 0.58], TUTORIAL, REFERENCES)
    assert summary["recipe"] == references.describe_recipe(TUTORIAL, SETTINGS)


def test_another_corpus_is_not_compared():
    summary = seeds.summarize({1: 0.1, 2: 0.2}, DEMO, SETTINGS, REFERENCES)
    assert summary["references"] == {}
    assert summary["comparison"].startswith("not comparable with the tutorial: its corpus is cola 1.1; its encoder is")


@pytest.mark.parametrize("arguments", [[], ["1"], ["-3"], ["many"], ["2", "3"]])
def test_a_number_of_seeds_is_needed(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["seeds", *arguments])
    with pytest.raises(UserError, match=r"^how many seeds\? at least 2: make seeds N=10$"):
        seeds.main()


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A folder in which `seeds 2` has trained its experiments; {commit of the experiment: {path: text}}."""
    experiments = {
        f"commit-{seed}": {
            paths.FINETUNED / "source.json": json.dumps(TUTORIAL),
            paths.TEST_METRICS: json.dumps({"mcc": mcc}),
            paths.FINETUNED / files.CHECKSUMS: f"{seed * 64}  model.safetensors\n{'0' * 64}  vocab.txt\n",
        }
        for seed, mcc in (("1", 0.5), ("2", 0.54))
    }

    def train(settings):
        assert settings == {"seed-1": {"seed": 1}, "seed-2": {"seed": 2}}
        return {name: name.replace("seed", "commit") for name in settings}

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((Path(__file__).parents[2] / "params.yaml").read_text())
    monkeypatch.setattr(sys, "argv", ["seeds", "2"])
    monkeypatch.setattr(seeds.dvc_queue, "train", train)
    monkeypatch.setattr(seeds.revision, "read", lambda path, commit: experiments[commit][path])
    monkeypatch.setattr(seeds, "read_references", lambda: REFERENCES)
    return experiments


def test_two_trained_seeds_are_summed_up_in_files_and_on_the_terminal(trained, monkeypatch, capsys):
    recorded = []
    monkeypatch.setattr(mlflow_logger, "record", lambda *arguments: recorded.append(arguments))
    seeds.main()
    summary = json.loads(paths.SEEDS.read_text())
    assert summary == seeds.summarize({1: 0.5, 2: 0.54}, TUTORIAL, SETTINGS, REFERENCES)
    assert paths.SEEDS_PICTURE.read_bytes().startswith(b"\x89PNG")
    statistics = {
        "test_mcc_mean": {0: summary["mean"]},
        "test_mcc_standard_deviation": {0: summary["standard_deviation"]},
    }
    written = [paths.SEEDS, paths.SEEDS_PICTURE]
    assert recorded == [("parent", "2 seeds", statistics, written, ["1" * 64, "2" * 64])]
    printed = capsys.readouterr().out
    assert "mean 0.520, standard deviation 0.028" in printed
    assert "3 public runs of its recipe: mean 0.540;" in printed
    assert "no significant difference from 0.520 (Welch's t-test)" in printed


def test_seeds_of_different_sentences_are_not_summed_up(trained):
    """As on a cluster whose machines have a corpus each."""
    trained["commit-2"][paths.FINETUNED / "source.json"] = json.dumps(SOURCE)
    with pytest.raises(UserError, match=r"^seed-2 and seed-1 were trained with different files .* and run this again$"):
        seeds.main()
    assert not paths.SEEDS.exists()
