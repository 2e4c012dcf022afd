"""The statistics of several seeds."""

import sys
from pathlib import Path

import pytest
from results import REFERENCES, TUTORIAL

from cola.core import params
from cola.core.errors import UserError
from cola.experiments import seeds

SETTINGS = params.load(Path(__file__).parents[2] / "params.yaml")


def test_the_summary_of_three_seeds_by_hand():
    summary = seeds.summarize({1: 0.50, 2: 0.54, 3: 0.58}, TUTORIAL, SETTINGS, REFERENCES)
    assert summary["mcc"] == {"1": 0.50, "2": 0.54, "3": 0.58}
    assert (summary["mean"], summary["standard_deviation"]) == pytest.approx((0.54, 0.04))
    # Student's t of two degrees of freedom is 4.302653 at 97.5% (from a printed table): 0.54 +- t * 0.04 / sqrt(3)
    assert summary["confidence_interval"] == pytest.approx([0.440634, 0.639366], abs=1e-6)
    assert summary["prediction_interval"] == pytest.approx([0.341269, 0.738731], abs=1e-6)  # +- t * 0.04 * sqrt(4 / 3)
    assert summary["references"] == {"the tutorial": [0.498], "3 public runs of its recipe": [0.52, 0.54, 0.56]}
    assert summary["comparison"].endswith("no significant difference from 0.540 (Welch's t-test)")
    assert summary["recipe"]["source"] == TUTORIAL


@pytest.mark.parametrize("arguments", [[], ["1"], ["-3"], ["²"], ["2", "3"]])
def test_a_number_of_seeds_is_needed(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["seeds", *arguments])
    with pytest.raises(UserError, match=r"^how many seeds\? at least 2: make seeds N=10$"):
        seeds.main()
