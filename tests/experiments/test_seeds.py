"""The statistics of several seeds, and what they are held against."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from results import DEMO, REFERENCES, SOURCE, TUTORIAL
from scipy import stats

from cola.core import files, params, paths
from cola.core.errors import UserError
from cola.experiments import seeds
from cola.report import mlflow_logger

SETTINGS = params.load(Path(__file__).parents[2] / "params.yaml")


def test_the_summary_of_three_seeds_by_hand():
    summary = seeds.summary({1: 0.50, 2: 0.54, 3: 0.58}, TUTORIAL, SETTINGS, REFERENCES)
    assert summary["mcc"] == {"1": 0.50, "2": 0.54, "3": 0.58}
    assert summary["mean"] == pytest.approx(0.54)
    assert summary["standard_deviation"] == pytest.approx(0.04)
    t = 4.302653  # Student's, two degrees of freedom, 97.5%: from a printed table
    margin = t * 0.04
    assert summary["confidence_interval"] == pytest.approx([0.54 - margin / 3**0.5, 0.54 + margin / 3**0.5], abs=1e-6)
    assert summary["prediction_interval"] == pytest.approx(
        [0.54 - margin * (4 / 3) ** 0.5, 0.54 + margin * (4 / 3) ** 0.5], abs=1e-6
    )
    assert summary["references"] == {"the tutorial": [0.498], "3 public runs of its recipe": [0.52, 0.54, 0.56]}
    assert summary["verdict"] == (
        "the tutorial: 0.498 lies within what one more seed may give, 0.341 to 0.739. "
        "3 public runs of its recipe: their mean of 0.540 agrees with 0.540."
    )


@pytest.mark.parametrize(
    ("mean", "spread", "lies", "agrees"), [(0.54, 3, True, True), (0.6, 0.5, False, False), (0.47, 2, True, False)]
)
def test_the_verdict_follows_the_figures(mean, spread, lies, agrees):
    values = mean + np.array([-0.01, 0.0, 0.01] * 4) * spread
    verdict = seeds.summary(dict(enumerate(values.tolist())), TUTORIAL, SETTINGS, REFERENCES)["verdict"]
    assert ("0.498 lies within" in verdict, "0.498 does not lie within" in verdict) == (lies, not lies)
    assert ("agrees with" in verdict, "differs from" in verdict) == (agrees, not agrees)
    assert agrees == (stats.ttest_ind(values, REFERENCES[1].mccs, equal_var=False).pvalue > 0.05)


def test_another_corpus_is_not_compared():
    summary = seeds.summary({1: 0.1, 2: 0.2}, DEMO, SETTINGS, REFERENCES)
    assert summary["references"] == {}
    assert summary["verdict"] == (
        "Not comparable with the tutorial: its corpus is cola 1.1; its encoder is google-bert/bert-base-uncased."
    )


def test_another_encoder_is_compared_with_what_was_measured_of_it():
    verdict = seeds.summary({1: 0.2, 2: 0.3}, SOURCE, SETTINGS, REFERENCES)["verdict"]
    assert verdict == (
        "tiny here, 2 seeds: their mean of 0.250 agrees with 0.250. "
        "Not comparable with the tutorial: its encoder is google-bert/bert-base-uncased."
    )


def test_a_summary_tells_corpus_encoder_and_settings_but_not_the_seed():
    recipe = seeds.summary({1: 0.1, 2: 0.2}, DEMO, SETTINGS, REFERENCES)["recipe"]
    assert recipe["source"] == DEMO
    assert (recipe["params"]["train.epochs"], recipe["params"]["sample_predict.seed"]) == (4, 7)
    assert "seed" not in recipe["params"]
    other = seeds.summary({1: 0.1, 2: 0.2}, DEMO, SETTINGS.model_copy(update={"seed": 43}), [])["recipe"]
    assert recipe == other


@pytest.mark.parametrize("arguments", [[], ["1"], ["-3"], ["many"], ["2", "3"]])
def test_a_number_of_seeds_is_needed(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["seeds", *arguments])
    with pytest.raises(UserError, match=r"^how many seeds\? at least 2: make seeds N=10$"):
        seeds.main()


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A folder in which `seeds 2` finds its experiments trained; {name of the experiment: {path: text}}."""
    experiments = {
        f"seed-{seed}": {
            paths.FINETUNED / "source.json": json.dumps(TUTORIAL),
            paths.TEST_METRICS: json.dumps({"mcc": mcc}),
            paths.FINETUNED / files.CHECKSUMS: f"{seed * 64}  model.safetensors\n{'0' * 64}  vocab.txt\n",
        }
        for seed, mcc in (("1", 0.5), ("2", 0.54))
    }

    def read(path, experiment, remedy):
        try:
            return experiments[experiment][path]
        except KeyError:
            raise UserError(f"{path} is not in {experiment} (gone); {remedy}") from None

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((Path(__file__).parents[2] / "params.yaml").read_text())
    monkeypatch.setattr(sys, "argv", ["seeds", "2"])
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    monkeypatch.setattr(seeds, "train", lambda names: None)
    monkeypatch.setattr(seeds.revision, "read", read)
    monkeypatch.setattr(seeds.references, "read", lambda: REFERENCES)
    return experiments


def test_two_trained_seeds_are_summed_up_in_files_and_on_the_terminal(trained, monkeypatch, capsys):
    recorded = []
    monkeypatch.setattr(mlflow_logger, "record", lambda *arguments: recorded.append(arguments))
    seeds.main()
    summary = json.loads(paths.SEEDS.read_text())
    assert summary == seeds.summary({1: 0.5, 2: 0.54}, TUTORIAL, SETTINGS, REFERENCES)
    assert paths.SEEDS_PICTURE.read_bytes().startswith(b"\x89PNG")
    statistics = {
        "test_mcc_mean": {0: summary["mean"]},
        "test_mcc_standard_deviation": {0: summary["standard_deviation"]},
    }
    written = [paths.SEEDS, paths.SEEDS_PICTURE]
    assert recorded == [("parent", "2 seeds", statistics, written, ["1" * 64, "2" * 64])]
    printed = capsys.readouterr().out
    assert "mean 0.520, standard deviation 0.028" in printed
    assert "3 public runs of its recipe: their mean of 0.540 agrees with 0.520." in printed


def test_a_seed_that_failed_is_named_with_its_log(trained):
    del trained["seed-2"][paths.TEST_METRICS]
    with pytest.raises(UserError, match=r"^metrics/test.json is not in seed-2 .*; `dvc queue logs seed-2` says why$"):
        seeds.main()
    assert not paths.SEEDS.exists()
