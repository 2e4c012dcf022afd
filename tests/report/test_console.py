"""What people read on a terminal of 80 columns."""

import os
import subprocess
import sys
from unittest.mock import Mock

import pandas as pd
import pytest
from dvc.repo import Repo
from project import ROOT
from results import DATA_CURVE, DEMO, REFERENCES, TUTORIAL

from cola.core import files, paths
from cola.core.errors import UserError
from cola.report import console, workspace

ANALYSIS = {"mcc_low": 0.4612, "mcc_high": 0.6123, "bag_of_words_mcc": 0.1049}
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "training_loss": [0.4996, 0.3172],
        "validation_loss": [0.4503, 0.4611],
        "validation_accuracy": [0.8014, 0.8131],
        "validation_mcc": [0.5071, -0.0412],
    }
)
SAMPLES = [
    {
        "sentence": "The ship sank to collect the insurance, which nobody in the town had thought of.",
        "label": "unacceptable",
        "predicted": "acceptable",
        "probability": 0.987,
        "correct": False,
    },
    {
        "sentence": "He [1] said [bold]so[/bold].",
        "label": "acceptable",
        "predicted": "acceptable",
        "probability": 0.512,
        "correct": True,
    },
]


@pytest.fixture
def printed(capsys, monkeypatch):
    """Calls a function of console.py and returns what it prints on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(function, *arguments):
        function(*arguments)
        text = capsys.readouterr().out
        assert "…" not in text, f"cut off:\n{text}"
        assert max(map(len, text.splitlines())) <= 80
        return text

    return call


def sentences(text, joined_by):
    """What stands in the first column of the table of samples."""
    (width,) = (line.index("label") for line in text.splitlines() if "sentence" in line and "label" in line)
    return joined_by.join(line[:width].strip() for line in text.splitlines())


def rows(text):
    """The words of each line of a table."""
    return [line.split() for line in text.splitlines()]


def test_the_training_table_has_a_row_per_epoch_and_the_tutorials_times(printed):
    text = printed(console.print_training, HISTORY, TUTORIAL)
    assert ["1", "0.500", "0.450", "0.801", "0.507"] in rows(text)
    assert ["2", "0.317", "0.461", "0.813", "-0.041"] in rows(text)
    assert text.strip().startswith("Training: cola, google-bert/bert-base-uncased")
    timed = HISTORY.assign(training_seconds=[210.4, 3599.7], validation_seconds=[7.04, 59.6])
    text = printed(console.print_training, timed, TUTORIAL)
    assert ["1", "0.500", "0.450", "0.801", "0.507", "3:30", "7.0", "s"] in rows(text)
    assert ["2", "0.317", "0.461", "0.813", "-0.041", "60:00", "1:00"] in rows(text)


def test_a_run_of_the_tutorials_corpus_and_encoder_is_compared_with_its_result(printed):
    assert printed(console.print_test, {"mcc": 0.5401, "sentences": 516}, ANALYSIS, TUTORIAL, REFERENCES) == (
        "Test MCC: 0.540\n"
        "  cola, google-bert/bert-base-uncased; 516 sentences\n"
        "  95% interval: 0.461 to 0.612; bag-of-words baseline: 0.105\n"
        "  the tutorial: 0.498; 3 public runs of its recipe: mean 0.540;\n"
        "  0.540 is within the 95% prediction interval for one more seed, 0.441 to 0.639\n"
    )


def test_the_demo_is_compared_with_nothing_and_the_reasons_are_whole_lines(printed):
    assert printed(console.print_test, {"mcc": 0.9, "sentences": 1000}, ANALYSIS, DEMO, REFERENCES) == (
        "Test MCC: 0.900\n"
        "  minimal_pairs, sentence-transformers/all-MiniLM-L6-v2; 1000 sentences\n"
        "  95% interval: 0.461 to 0.612; bag-of-words baseline: 0.105\n"
        "  not comparable with the tutorial: its corpus is cola 1.1;\n"
        "  its encoder is google-bert/bert-base-uncased\n"
    )


def test_seeds_are_a_table_with_their_statistics(printed):
    summary = {
        "mcc": {"1": 0.5, "2": 0.54321},
        "mean": 0.5216,
        "standard_deviation": 0.0306,
        "confidence_interval": [0.2471, 0.7962],
        "comparison": "The first phrase is as long as the terminal is wide, less some columns; and this is the second",
    }
    text = printed(console.print_seeds, summary, DEMO)
    assert text.startswith("\nSeeds: minimal_pairs, sentence-transformers/all-MiniLM-L6-v2\n")
    assert [words for words in rows(text) if len(words) == 2 and words[0] in "12"] == [["1", "0.500"], ["2", "0.543"]]
    assert text.splitlines()[-4:] == [
        "mean 0.522, standard deviation 0.031",
        "95% interval of the mean: 0.247 to 0.796",
        "The first phrase is as long as the terminal is wide, less some columns;",
        "and this is the second",
    ]


def test_the_data_curve_is_a_table_with_intervals_and_says_when_the_baseline_is_passed(printed):
    text = printed(console.print_data_curve, DATA_CURVE)
    assert ["100", "0.125", "0.000", "0.250", "-0.125"] in rows(text)
    assert "0.00 to 0.25 -0.12 to 0.12 0.12 to 0.38 -0.06 to 0.50".split() in rows(text)
    assert ["7,695", "0.500", "0.000", "0.250", "0.250"] in rows(text)
    assert text.splitlines()[-5:] == [
        "With all of them, the differences between the means:",
        "  pretrained over bag-of-words baseline: 0.250, -0.06 to 0.50",
        "With all of them, on validation; the bag-of-words baseline has 0.188:",
        "  pretrained: better after epoch 2, 2:00; 0.375 after epoch 2, 2:00",
        "  random weights: not better; 0.125 after epoch 2, 2:00",
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((text, text) for text in ("[neg]", "[/neg]", r"\[b]", ":cat:")),
        ("\x1b]0;evil\x07", r"\x1b]0;evil\x07"),
        ("a\x9bb\r\u202ec", r"a\x9bb\r\u202ec"),
    ],
)
def test_labels_and_names_are_shown_as_they_are_and_control_characters_escaped(printed, text, name):
    source = {"corpus": {"name": text, "revision": None}, "encoder": {"name": text, "revision": None}}
    row = {"sentence": text, "label": text, "predicted": f"{text}!", "probability": 0.75, "correct": False}
    summary = {
        "mcc": {"1": 0.5},
        "mean": 0.5,
        "standard_deviation": 0.1,
        "confidence_interval": [0, 1],
        "comparison": f"compared with {text}",
    }
    samples = printed(console.print_samples, [row], source)
    assert f"Predictions: {name}, {name}\n" in samples
    assert [name, name, f"{name}!", "0.75", "wrong"] in rows(samples)
    assert [name, name, f"{name}!", "0.75"] in rows(printed(console.print_mistakes, pd.DataFrame([row])))
    assert f"Training: {name}, {name}\n" in printed(console.print_training, HISTORY, source)
    assert f"  {name}, {name}; 2 sentences\n" in printed(
        console.print_test, {"mcc": 0.5, "sentences": 2}, ANALYSIS, source, []
    )
    seeds = printed(console.print_seeds, summary, source)
    assert f"Seeds: {name}, {name}\n" in seeds
    assert f"compared with {name}\n" in seeds


def test_the_samples_are_a_table(printed):
    text = printed(console.print_samples, SAMPLES, TUTORIAL)
    assert text.strip().startswith("Predictions: cola, google-bert/bert-base-uncased")
    answers = [words[-4:] for words in rows(text) if words[-1:] in (["right"], ["wrong"])]
    assert answers == [
        ["unacceptable", "acceptable", "0.99", "wrong"],
        ["acceptable", "acceptable", "0.51", "right"],
    ]
    assert all(sample["sentence"] in sentences(text, " ") for sample in SAMPLES), "square brackets are no markup"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project under DVC, with no pipeline and no git."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report"])
    Repo.init(no_scm=True).close()


@pytest.fixture
def result(project):
    """The files of a result in such a project."""
    paths.FINETUNED.mkdir(parents=True)
    files.write_json(paths.FINETUNED / "source.json", TUTORIAL)
    files.write_csv(paths.HISTORY, HISTORY)
    files.write_json(paths.TEST_METRICS, {"mcc": 0.5401, "sentences": 516})
    files.write_json(paths.ANALYSIS, ANALYSIS)
    files.write_json(paths.SAMPLES, SAMPLES)


def test_a_result_is_printed_again_from_its_files(result, printed):
    text = printed(console.main)
    assert ["2", "0.317", "0.461", "0.813", "-0.041"] in rows(text)
    assert "Test MCC: 0.540" in text
    assert ["acceptable", "0.99", "wrong"] in [words[-3:] for words in rows(text)]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_the_letters_of_a_text_shows_their_codes(result, encoding):
    files.write_json(paths.SAMPLES, [SAMPLES[1] | {"sentence": "问题é"}])
    command = [sys.executable, "-m", "cola.report.console"]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, encoding="latin-1", check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ("\\u95ee\\u9898\\xe9" if encoding == "ascii" else "\\u95ee\\u9898é") in ended.stdout


def test_a_result_whose_files_are_of_two_runs_is_not_printed(result, printed, monkeypatch):
    monkeypatch.setattr(workspace, "check_one_run", Mock(side_effect=UserError("not of one run")))
    with pytest.raises(UserError, match="not of one run"):
        printed(console.main)


def test_a_broken_reference_is_a_warning_and_the_result_is_shown(result, capsys):
    files.write_text(paths.REFERENCE / "mine.json", '{"runs": [{"mc')
    console.main()
    printed = capsys.readouterr()
    assert printed.err.startswith("warning: metrics/reference/mine.json ")
    assert printed.err.count("\n") == 1
    assert "Test MCC: 0.540" in printed.out


def test_a_reader_that_has_ended_fails_nothing():
    shown = "from cola.report import console; console.PlainConsole().print('x' * 100_000)"
    code = f"import sys; {shown}; print('on', file=sys.stderr)"
    command = f'"{sys.executable}" -c "{code}" | true; exit ${{PIPESTATUS[0]}}'
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "on\n")


def test_a_missing_result_is_one_line_with_a_remedy(project):
    with pytest.raises(UserError, match=r"^models/finetuned/source.json is not in the workspace .*; run `dvc repro`$"):
        console.main()
