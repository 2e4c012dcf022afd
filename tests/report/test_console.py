"""People read these tables on a terminal of 80 columns."""

import os
import subprocess
import sys

import pytest
from processes import run_to_end
from project import ROOT
from results import DEMO, HISTORY, REFERENCES, TUTORIAL

from cola.core import files, paths
from cola.report import console

ANALYSIS = {"mcc_low": 0.4612, "mcc_high": 0.6123, "bag_of_words_mcc": 0.1049}
SEEDS = {
    "mcc": {"1": 0.5, "2": 0.54321},
    "mean": 0.5216,
    "standard_deviation": 0.0306,
    "confidence_interval": [0.2471, 0.7962],
    "comparison": "the tutorial: 0.498; not comparable with [b]",
}


@pytest.fixture
def printed(capsys, monkeypatch):
    """printed(function, *arguments) returns what a function of console.py prints on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(function, *arguments):
        function(*arguments)
        text = capsys.readouterr().out
        assert "…" not in text, f"cut off:\n{text}"
        assert max(map(len, text.splitlines())) <= 80
        return text

    return call


def rows(text):
    """The words of every line of a table."""
    return [line.split() for line in text.splitlines()]


def test_the_training_table_has_a_row_per_epoch_and_the_tutorials_times(printed):
    text = printed(console.print_training, HISTORY, TUTORIAL)
    assert text.startswith("\nTraining: cola, google-bert/bert-base-uncased\n")
    assert ["1", "0.650", "0.700", "0.800", "0.250"] in rows(text)
    timed = HISTORY.assign(training_seconds=210.4, validation_seconds=7.04)
    row = ["1", "0.650", "0.700", "0.800", "0.250", "3:30", "7.0", "s"]
    assert row in rows(printed(console.print_training, timed, TUTORIAL))


def test_a_test_mcc_is_compared_in_whole_lines(printed):
    assert printed(console.print_test, {"mcc": 0.5401, "sentences": 516}, ANALYSIS, TUTORIAL, REFERENCES) == (
        "Test MCC: 0.540\n"
        "  cola, google-bert/bert-base-uncased; 516 sentences\n"
        "  95% interval: 0.461 to 0.612; bag-of-words baseline: 0.105\n"
        "  the tutorial: 0.498;\n"
        "  3 public runs of its recipe: mean 0.540;\n"
        "  0.540 is within the 95% prediction interval for one more seed, 0.441 to 0.639\n"
    )


def test_seeds_are_a_table_with_their_statistics(printed):
    text = printed(console.print_seeds, SEEDS, DEMO)
    assert text.startswith("\nSeeds: minimal_pairs, sentence-transformers/all-MiniLM-L6-v2\n")
    assert [words for words in rows(text) if len(words) == 2 and words[0] in "12"] == [["1", "0.500"], ["2", "0.543"]]
    assert text.splitlines()[-4:] == [
        "mean 0.522, standard deviation 0.031",
        "95% interval of the mean: 0.247 to 0.796",
        "the tutorial: 0.498;",
        "not comparable with [b]",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        *((text, text) for text in ("[neg]", "[/neg]", r"\[b]", ":cat:")),
        ("\x1b]0;evil\x07", r"\x1b]0;evil\x07"),
        ("a\x9bb\r\u202ec", r"a\x9bb\r\u202ec"),
    ],
)
def test_texts_are_printed_as_they_are_and_control_characters_escaped(printed, text, shown):
    source = {"corpus": {"name": text, "revision": None}, "encoder": {"name": text, "revision": None}}
    row = {"sentence": text, "label": text, "predicted": f"{text}!", "probability": 0.75, "correct": False}
    predictions = printed(console.print_predictions, f"Predictions: {text}", [row])
    assert f"Predictions: {shown}\n" in predictions
    assert [shown, shown, f"{shown}!", "0.75", "wrong"] in rows(predictions)
    test = printed(console.print_test, {"mcc": 0.5, "sentences": 2}, ANALYSIS, source, [])
    assert f"  {shown}, {shown}; 2 sentences\n" in test


def test_a_result_is_printed_from_its_files_and_a_broken_reference_is_a_warning(result, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["console"])
    monkeypatch.setenv("COLUMNS", "80")
    files.write_text(paths.REFERENCE / "mine.json", '{"runs": [{"mc')
    console.main()
    printed = capsys.readouterr()
    assert ["1", "0.650", "0.700", "0.800", "0.250"] in rows(printed.out)
    assert "Test MCC: 0.432" in printed.out
    answers = [words[-4:] for words in rows(printed.out) if words[-1:] in (["right"], ["wrong"])]
    assert answers == [
        ["acceptable", "unacceptable", "0.90", "wrong"],
        ["unacceptable", "unacceptable", "0.80", "right"],
    ]
    assert printed.err.startswith("warning: metrics/reference/mine.json ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", r"\u95ee\u9898\xe9"), ("latin-1", r"\u95ee\u9898é")])
def test_a_terminal_without_a_letter_shows_its_code(result, encoding, shown):
    (row, _) = files.read_json(paths.SAMPLES)
    files.write_json(paths.SAMPLES, [row | {"sentence": "问题é"}])
    command = [sys.executable, "-m", "cola.report.console"]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, encoding="latin-1", check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert shown in ended.stdout


def test_a_long_text_is_cut(capsys):
    row = {"sentence": "ü" * 8000, "label": "b", "predicted": "b", "probability": 1.0, "correct": True}
    console.print_predictions("Predictions", [row])
    printed = capsys.readouterr().out
    assert (printed.count("ü"), printed.count("…")) == (299, 1)


def test_a_stage_goes_on_if_its_output_is_full():
    code = "from cola.report import console\nwith console.errors_as_warnings(): print('epoch 1')\nprint('later')"
    ended = run_to_end(["bash", "-c", f'"{sys.executable}" -c "{code}" > /dev/full'])
    assert (ended.returncode, ended.stderr) == (0, "warning: [Errno 28] No space left on device\n")


def test_a_closed_pipe_is_no_error():
    code = "import sys; from cola.report import console; console.PlainConsole().print('x' * 100_000)"
    command = f'"{sys.executable}" -c "{code}; print(\'on\', file=sys.stderr)" | true; exit ${{PIPESTATUS[0]}}'
    ended = run_to_end(["bash", "-c", command])
    assert (ended.returncode, ended.stderr) == (0, "on\n")
