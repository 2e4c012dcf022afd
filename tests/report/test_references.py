"""What a test MCC is held against: the committed references, and what is said of them."""

import json

import pytest
from project import ROOT
from results import DEMO, REFERENCES, SOURCE, TUTORIAL

from cola.core import files, paths
from cola.core.errors import UserError
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


def test_every_public_run_names_its_source():
    public = json.loads((ROOT / paths.REFERENCE / "public_runs.json").read_text())
    runs = [*public["runs"], *public["authors"]]
    assert len(runs) == 19
    assert all(len(run["commit"]) == 40 and run["repository"].count("/") == 1 and run["path"] for run in runs)
    assert len({(run["repository"], run["path"]) for run in runs}) == len(runs)


def test_without_references_there_is_nothing_to_compare_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert references.read() == []
    assert references.verdict(TUTORIAL, 0.5, []) == ""


def test_a_measured_reference_is_of_the_encoder_that_its_source_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.write_json(paths.REFERENCE / "tiny.json", {"runs": [{"mcc": 0.2}, {"mcc": 0.3}]})
    with pytest.raises(UserError, match=r"metrics/reference/tiny/source.json"):
        references.read()
    files.write_json(paths.REFERENCE / "tiny" / "source.json", SOURCE)
    assert references.read() == [references.Reference("tiny here, 2 seeds", SOURCE, [0.2, 0.3])]


@pytest.mark.parametrize("text", ["{", "[]", '{"mcc": 0.5}', '{"runs": [{"seed": 1}]}', '{"runs": [{"mcc": "high"}]}'])
def test_what_is_no_reference_is_named_with_the_remedy(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.write_text(paths.REFERENCE / "mine.json", text)
    with pytest.raises(
        UserError, match=r"^metrics/reference/mine.json is no reference .*: `git checkout metrics/.*json`"
    ):
        references.read()


@pytest.mark.parametrize(
    ("source", "mcc", "said"),
    [
        (
            TUTORIAL,
            0.65,
            "the tutorial: 0.498; 3 public runs of its recipe: mean 0.540; "
            "this run does not lie within what one more may give, 0.441 to 0.639",
        ),
        (
            SOURCE,
            0.25,
            "tiny here, 2 seeds: mean 0.250; this run lies within what one more may give, -0.850 to 1.350; "
            "not comparable with the tutorial: its encoder is google-bert/bert-base-uncased",
        ),
        (
            DEMO,
            0.9,
            "not comparable with the tutorial: its corpus is cola 1.1; its encoder is google-bert/bert-base-uncased",
        ),
    ],
)
def test_a_run_is_held_against_those_of_its_corpus_and_encoder(source, mcc, said):
    assert references.verdict(source, mcc, REFERENCES) == said


def test_references_of_the_corpus_are_those_of_the_encoder_and_those_of_others():
    tutorial, public, tiny = REFERENCES
    assert references.of_the_corpus(SOURCE, REFERENCES) == ([tiny], [tutorial, public])
    assert references.of_the_corpus(TUTORIAL, REFERENCES) == ([tutorial, public], [tiny])
    assert references.of_the_corpus(DEMO, REFERENCES) == ([], [])


def test_one_more_run_lies_where_students_t_puts_it():
    """Mean 0.54, standard deviation 0.02, Student's t of two degrees of freedom 4.302653 (from a printed table)."""
    margin = 4.302653 * 0.02 * (4 / 3) ** 0.5
    assert references.prediction_interval([0.52, 0.54, 0.56]) == pytest.approx((0.54 - margin, 0.54 + margin), abs=1e-6)
