"""The committed references, and how test MCCs compare with them."""

import json
import re

import pytest
from project import ROOT
from results import DEMO, REFERENCES, SOURCE, TUTORIAL

from cola.core import files, params, paths
from cola.report import references


def test_the_committed_references_are_read_the_tutorial_first(monkeypatch):
    monkeypatch.chdir(ROOT)
    read = references.read()
    assert [reference.name for reference in read[:2]] == ["the tutorial", "16 public runs of its recipe"]
    assert read[0].mccs == [0.498]
    assert len(read[1].mccs) == 16
    for reference in read[2:]:
        assert len(reference.mccs) == 5
        assert reference.name.endswith(" here, 5 seeds")


@pytest.mark.parametrize("path", sorted((ROOT / paths.REFERENCE).glob("*.json")), ids=lambda path: path.stem)
def test_the_numbers_of_a_reference_are_those_of_its_runs(path):
    """The mean, the sample's standard deviation and the count, to the digits given."""
    reference = json.loads(path.read_text())
    mccs = [run["mcc"] for run in reference["runs"]]
    mean = sum(mccs) / len(mccs)
    assert reference["mcc"] == pytest.approx(mean, abs=5e-5)
    if len(mccs) > 1:
        deviation = (sum((mcc - mean) ** 2 for mcc in mccs) / (len(mccs) - 1)) ** 0.5
        assert reference["standard_deviation"] == pytest.approx(deviation, abs=5e-5)
        assert reference["count"] == len(mccs)


RUNS = '{"runs": [{"mcc": 0.2}, {"mcc": 0.3}]}'


@pytest.mark.parametrize(
    ("text", "source"),
    [
        *((text, SOURCE) for text in ("{", "[]", "\xff", '{"mcc": 0.5}', '{"runs": []}', '{"runs": [{"seed": 1}]}')),
        *((text, SOURCE) for text in ('{"runs": [{"mcc": "high"}]}', '{"runs": [{"mcc": NaN}]}')),
        *((RUNS, source) for source in (None, {}, [], {"corpus": "cola", "encoder": "tiny"})),
    ],
)
def test_what_is_no_reference_is_a_warning_with_a_remedy(text, source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for stem in ("tiny", ".#tiny", "mine"):  # a measured one, an editor's, and a wrong one
        files.write_json(paths.REFERENCE / stem / "source.json", SOURCE)
        files.write_text(paths.REFERENCE / f"{stem}.json", RUNS)
    (paths.REFERENCE / "mine.json").write_text(text, encoding="latin-1")
    files.write_json(paths.REFERENCE / "mine" / "source.json", source)
    if source is None:
        (paths.REFERENCE / "mine" / "source.json").unlink()
    expected = [references.Reference("tiny here, 2 seeds", SOURCE, [0.2, 0.3])]
    assert references.read() == expected
    (warning,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch("warning: metrics/reference/mine.json is no reference, .*: remove it", warning)
    (paths.REFERENCE / "mine.json").unlink()
    assert references.read() == expected
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("mccs", "source", "phrases"),
    [
        (
            [0.65],
            TUTORIAL,
            "the tutorial: 0.498; 3 public runs of its recipe: mean 0.540; "
            "0.650 is outside the 95% prediction interval for one more seed, 0.441 to 0.639",
        ),
        (
            [0.25],
            SOURCE,
            "tiny here, 2 seeds: mean 0.250; "
            "0.250 is within the 95% prediction interval for one more seed, -0.850 to 1.350; "
            "not comparable with the tutorial: its encoder is google-bert/bert-base-uncased",
        ),
        (
            [0.9],
            DEMO,
            "not comparable with the tutorial: its corpus is cola 1.1; its encoder is google-bert/bert-base-uncased",
        ),
        (
            [0.50, 0.54, 0.58],
            TUTORIAL,
            "the tutorial: 0.498; 0.498 is within the 95% prediction interval for one more seed, 0.341 to 0.739; "
            "3 public runs of its recipe: mean 0.540; no significant difference from 0.540 (Welch's t-test)",
        ),
        (
            [0.60, 0.61, 0.62],
            TUTORIAL,
            "the tutorial: 0.498; 0.498 is outside the 95% prediction interval for one more seed, 0.560 to 0.660; "
            "3 public runs of its recipe: mean 0.540; a significant difference from 0.610 (Welch's t-test)",
        ),
    ],
    ids=["a run outside", "a run within", "another corpus", "seeds like the references", "seeds unlike them"],
)
def test_runs_compare_with_references_of_their_corpus_and_encoder(mccs, source, phrases):
    assert references.compare(mccs, source, REFERENCES) == phrases


def test_a_recipe_has_corpus_encoder_and_settings_but_not_the_seed():
    settings = params.load(ROOT / paths.PARAMS)
    recipe = references.describe_recipe(DEMO, settings)
    assert recipe["source"] == DEMO
    assert (recipe["params"]["train.epochs"], recipe["params"]["sample_predict.seed"]) == (4, 7)
    assert "seed" not in recipe["params"]
    assert references.describe_recipe(DEMO, settings.model_copy(update={"seed": 43})) == recipe


def test_references_of_the_corpus_are_those_of_the_encoder_and_those_of_others():
    tutorial, public, tiny = REFERENCES
    assert references.comparable_and_other_encoders(SOURCE, REFERENCES) == ([tiny], [tutorial, public])
    assert references.comparable_and_other_encoders(TUTORIAL, REFERENCES) == ([tutorial, public], [tiny])
    assert references.comparable_and_other_encoders(DEMO, REFERENCES) == ([], [])
