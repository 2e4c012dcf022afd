"""References are read, and test MCCs are compared with them."""

import json
import re

import pytest
from project import ROOT, copy_project
from results import DEMO, REFERENCES, SOURCE, TUTORIAL

from cola.core import files, params, paths
from cola.report import references


@pytest.mark.parametrize("path", sorted((ROOT / paths.REFERENCE).glob("*.json")), ids=lambda path: path.stem)
def test_the_numbers_of_a_reference_are_those_of_its_runs(path):
    """The mean, the standard deviation and the count, to the file's digits."""
    reference = json.loads(path.read_text())
    mccs = [run["mcc"] for run in reference["runs"]]
    mean = sum(mccs) / len(mccs)
    assert reference["mcc"] == pytest.approx(mean, abs=5e-5)
    if len(mccs) > 1:
        deviation = (sum((mcc - mean) ** 2 for mcc in mccs) / (len(mccs) - 1)) ** 0.5
        assert reference["standard_deviation"] == pytest.approx(deviation, abs=5e-5)
        assert reference["count"] == len(mccs)


@pytest.mark.parametrize(
    "text", ["{", "[]", "\xff", '{"runs": []}', '{"runs": [{"mcc": "high"}]}', '{"runs": [{"mcc": NaN}]}']
)
def test_a_wrong_reference_is_a_warning_with_a_remedy(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = '{"runs": [{"mcc": 0.2}, {"mcc": 0.3}]}'
    for stem, reference in {"tiny": runs, ".#tiny": runs, "wrong": text, "no_source": runs}.items():
        (paths.REFERENCE / stem).mkdir(parents=True)
        (paths.REFERENCE / f"{stem}.json").write_text(reference, encoding="latin-1")
        source = {} if stem == "no_source" else SOURCE
        files.write_json(paths.REFERENCE / stem / "source.json", source)
    assert references.read() == [references.Reference("tiny here, 2 seeds", SOURCE, [0.2, 0.3])]
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    for stem, warning in zip(("no_source", "wrong"), warnings, strict=True):
        assert re.fullmatch(
            rf"warning: metrics/reference/{stem}.json is not a reference \(.*\): fix or remove it", warning
        )


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
def test_mccs_compare_with_references_of_their_corpus_and_encoder(mccs, source, phrases):
    assert references.compare(mccs, source, REFERENCES) == phrases


def test_a_recipe_has_corpus_encoder_and_settings_but_not_the_seed():
    settings = params.load(ROOT / paths.PARAMS)
    recipe = references.describe_recipe(DEMO, settings)
    assert recipe["source"] == DEMO
    assert (recipe["params"]["train.epochs"], recipe["params"]["sample_predict.seed"]) == (4, 7)
    assert references.describe_recipe(DEMO, settings.model_copy(update={"seed": 43})) == recipe


def test_references_of_the_corpus_are_split_by_encoder():
    tutorial, public, tiny = REFERENCES
    assert references.split_by_encoder(SOURCE, REFERENCES) == ([tiny], [tutorial, public])
    assert references.split_by_encoder(TUTORIAL, REFERENCES) == ([tutorial, public], [tiny])
    assert references.split_by_encoder(DEMO, REFERENCES) == ([], [])


def test_a_fresh_clone_shows_the_references_in_a_table_that_fits(tmp_path, run):
    table = run(copy_project(tmp_path), "dvc", "metrics", "show", COLUMNS="100").splitlines()
    assert max(map(len, table)) <= 100
    rows = {line.split()[0]: line.split()[1:] for line in table if line.strip()}
    assert rows["Path"] == ["count", "mcc", "standard_deviation"]
    assert rows["metrics/reference/tutorial.json"] == ["-", "0.498", "-"]
    assert rows["metrics/reference/public_runs.json"] == ["16", "0.5437", "0.0165"]
    assert {"metrics/reference/all-mpnet-base-v2.json", "metrics/reference/all-MiniLM-L6-v2.json"} < rows.keys()
