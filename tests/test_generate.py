"""docs/generate.py writes outputs and tables between the comments of a document, and nothing else."""

import sys

import pytest
from results import DATA_CURVE, HISTORY, SOURCE

from cola.core import files, paths
from cola.core.errors import UserError
from docs import generate

DOCUMENT = "Before.\n\n<!-- table: references -->\nold\n<!-- end of table -->\n\nAfter.\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a README that shows two references: the tutorial, and two seeds of tiny/bert."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    files.write_json(paths.REFERENCE / "tutorial.json", {"runs": [{"mcc": 0.498}]})
    files.write_json(paths.REFERENCE / "tiny.json", {"runs": [{"mcc": 0.2}, {"mcc": 0.3}]})
    files.write_json(paths.REFERENCE / "tiny" / "source.json", SOURCE)
    files.write_json(paths.REFERENCE / "data_curve" / "tiny.json", DATA_CURVE)
    for name in ("README.md", "CONTRIBUTING.md"):
        files.write_text(tmp_path / name, DOCUMENT if name == "README.md" else "")
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["generate", *arguments])
    generate.main()


def test_a_table_is_written_and_the_rest_stays(project, monkeypatch, capsys):
    run(monkeypatch)
    assert (project / "README.md").read_text() == (
        "Before.\n\n<!-- table: references -->\n\n"
        "| result | encoder | runs | test MCC | standard deviation |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| the tutorial | bert-base-uncased | 1 | 0.498 |  |\n"
        "| tiny here, 2 seeds | bert | 2 | 0.250 | 0.071 |\n"
        "\n<!-- end of table -->\n\nAfter.\n"
    )
    assert capsys.readouterr().out == "written: README.md (references)\n"


def test_a_check_names_the_block_that_differs_and_writes_nothing(project, monkeypatch):
    run(monkeypatch)
    run(monkeypatch, "--check")
    (project / "README.md").write_text(DOCUMENT)
    with pytest.raises(UserError, match=r"as they are: README.md \(references\); run `make docs`"):
        run(monkeypatch, "--check")
    assert (project / "README.md").read_text() == DOCUMENT


def test_an_output_is_what_a_terminal_of_80_columns_shows(project, monkeypatch):
    folder, sentence = paths.REFERENCE / "tiny", "She said that nobody in the town had thought of the insurance before."
    files.write_csv(folder / "history.csv", HISTORY.assign(validation_accuracy=0.5))
    files.write_json(folder / "test.json", {"mcc": 0.2, "sentences": 2})
    files.write_json(folder / "analysis.json", {"mcc_low": 0.1, "mcc_high": 0.3, "bag_of_words_mcc": 0.05})
    sample = {"sentence": sentence, "label": "yes", "predicted": "no", "probability": 0.875, "correct": False}
    files.write_json(folder / "samples.json", [sample])
    (project / "README.md").write_text("<!-- output: result tiny -->\nold\n<!-- end of output -->\n")
    run(monkeypatch)
    lines = (project / "README.md").read_text().splitlines()
    assert lines[:3] == ["<!-- output: result tiny -->", "```", "Training: cola, tiny/bert"]
    assert lines[-4:] == [
        " She said that nobody in the town had     yes    no                0.88  wrong",
        " thought of the insurance before.",
        "```",
        "<!-- end of output -->",
    ]
    assert "Test MCC: 0.200" in lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: nothing -->\n<!-- end of table -->", "README.md: no table has the name nothing"),
        ("<!-- output: references -->\n<!-- end of output -->", "README.md: no output has the name references"),
        ("<!-- table: references -->\n<!-- end of output -->", "README.md: a block has no end"),
    ],
)
def test_a_comment_that_is_wrong_is_one_line(project, monkeypatch, text, message):
    (project / "README.md").write_text(text)
    with pytest.raises(UserError, match=message):
        run(monkeypatch)
    assert (project / "README.md").read_text() == text


def test_a_data_curve_is_a_row_for_each_number_of_sentences(project):
    assert list(generate.tabulate_data_curve("tiny"))[1:] == [
        ("100", "0.125", "0.000", "0.250"),
        ("7,695", "0.500", "0.000", "0.250"),
    ]


def test_speed_is_in_seconds_and_in_times_of_this_pipeline(project):
    methods = {
        "the tutorial's loop": {"seconds": 4.0, "ratio": 16.04},
        "bert-cola": {"seconds": 0.25, "ratio": 1.0},
        "roofline": {"seconds": 0.0625},
    }
    benchmark = {"machine": "Fast(R), 2 threads", "training": {"bert-base-uncased": methods}}
    files.write_json(generate.BENCHMARKS / "fast.json", benchmark)
    assert list(generate.tabulate_speed("training", "fast")) == [
        ("training, Fast, 2 threads", "the tutorial's loop", "bert-cola", "roofline"),
        ("bert-base-uncased", "4.00 (16.0)", "**0.25**", "0.062 (25%)"),
    ]
    scores = "method,seed,test_mcc\ntutorial,0,0.25\ntutorial,1,0.5\nbert-cola,0,0.125\nbert-cola,1,0.25\n"
    files.write_text(generate.outcome.RESULTS, scores)
    assert list(generate.tabulate_tutorial()) == [
        ("", "the tutorial's loop", "this pipeline"),
        ("mean test MCC, 2 seeds of MiniLM on CoLA", "0.375", "0.188"),
        ("a step of bert-base-uncased's shape, Fast, 2 threads", "4.00 s (16.0 times)", "0.25 s"),
    ]


def test_the_outcome_is_that_of_the_test_of_equivalence(project):
    rows = [("tutorial", 0.1), ("tutorial", 0.3), ("bert-cola", 0.3), ("bert-cola", 0.5)]
    lines = [f"{method},{seed},{mcc},{mcc}" for seed, (method, mcc) in enumerate(rows)]
    files.write_text(generate.outcome.RESULTS, "\n".join(["method,seed,training_loss_1,test_mcc", *lines]))
    _, loss, mcc = generate.tabulate_outcome()
    assert (loss[0], mcc[0]) == ("training loss, epoch 1", "test MCC")
    # Welch with two degrees of freedom: t = 2.920, and p of (0.212 - 0.2) / 0.141 = 0.0858.
    assert mcc[1:] == ("0.200 (0.141)", "0.400 (0.141)", "+0.200 ± 0.413", "0.212", "not shown, p = 0.47")
