import sys

import numpy as np
import pytest
from scipy import stats

from cola.core.errors import UserError
from cola.data import tutorial
from cola.experiments import seeds
from cola.report import figures


def test_the_summary_of_three_seeds_by_hand():
    found = seeds.summary({1: 0.50, 2: 0.54, 3: 0.58}, comparable=True)
    assert found["mcc"] == {"1": 0.50, "2": 0.54, "3": 0.58}
    assert found["mean"] == pytest.approx(0.54)
    assert found["standard_deviation"] == pytest.approx(0.04)
    t = 4.302653  # Student's, two degrees of freedom, 97.5%: from a printed table
    assert found["interval"] == pytest.approx([0.54 - t * 0.04 / 3**0.5, 0.54 + t * 0.04 / 3**0.5], abs=1e-6)
    assert found["one_run"] == pytest.approx([0.54 - t * 0.04 * (4 / 3) ** 0.5, 0.54 + t * 0.04 * (4 / 3) ** 0.5])
    assert found["verdict"] == (
        "The tutorial's 0.498 lies within what one run may give, 0.341 to 0.739. "
        "The mean agrees with that of the 26 public runs: 0.540 and 0.540."
    )


@pytest.mark.parametrize(
    ("mean", "said"), [(0.54, "lies within|agrees with"), (0.6, "does not lie within|differs from")]
)
def test_the_verdict_follows_the_figures(mean, said):
    values = mean + np.array([-0.01, 0.0, 0.01] * 4) * (3 if mean == 0.54 else 0.5)
    verdict = seeds.summary(dict(enumerate(values.tolist())), comparable=True)["verdict"]
    for words in said.split("|"):
        assert words in verdict
    agrees = stats.ttest_ind(values, tutorial.PUBLIC_RUNS, equal_var=False).pvalue > 0.05
    assert agrees == ("agrees" in verdict)


def test_another_corpus_is_not_compared():
    found = seeds.summary({1: 0.1, 2: 0.2}, comparable=False)
    assert found["verdict"].startswith("Not comparable")
    assert not found["comparable"]


@pytest.mark.parametrize("comparable", [True, False])
def test_the_picture_has_every_seed(comparable):
    (axes,) = figures.seeds(seeds.summary({1: 0.1, 2: 0.2, 5: 0.3}, comparable)).axes
    dots = [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert dots == [[0.1, 0.2, 0.3], list(tutorial.PUBLIC_RUNS)]
    names = " ".join(label.get_text() for label in axes.get_yticklabels())
    assert ("not comparable" in names) != comparable


def test_the_public_runs_are_those_of_the_readme():
    assert len(tutorial.PUBLIC_RUNS) == 26
    assert np.mean(tutorial.PUBLIC_RUNS) == pytest.approx(0.540, abs=5e-4)
    assert np.std(tutorial.PUBLIC_RUNS, ddof=1) == pytest.approx(0.020, abs=5e-4)


@pytest.mark.parametrize("arguments", [[], ["1"], ["-3"], ["many"], ["2", "3"]])
def test_a_number_of_seeds_is_needed(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["seeds", *arguments])
    with pytest.raises(UserError, match=r"^how many seeds\? at least 2: make seeds N=10$"):
        seeds.main()
