import sys

import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo

from cola.core import files, paths
from cola.core.errors import UserError
from cola.data import tutorial
from cola.report import console, figures

PINNED = "86b5e0934494bd15c9632b12f734a8a67f723594"
TUTORIAL = {
    "corpus": {"name": "cola", "revision": "1.1"},
    "encoder": {"name": "google-bert/bert-base-uncased", "revision": PINNED},
}
DEMO = {
    "corpus": {"name": "minimal_pairs", "revision": None},
    "encoder": {
        "name": "sentence-transformers/all-MiniLM-L6-v2",
        "revision": "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    },
}
OTHERS = {
    "corpus": TUTORIAL | {"corpus": {"name": "minimal_pairs", "revision": None}},
    "own corpus of that name": TUTORIAL | {"corpus": {"name": "cola", "revision": None}},
    "encoder": TUTORIAL | {"encoder": {"name": "google-bert/bert-large-uncased", "revision": PINNED}},
    "revision": TUTORIAL | {"encoder": {"name": "google-bert/bert-base-uncased", "revision": "0" * 40}},
}
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


@pytest.mark.parametrize("source", [TUTORIAL, DEMO])
def test_the_training_table_has_a_row_per_epoch(printed, source):
    text = printed(console.print_training, HISTORY, source)
    assert ["1", "0.500", "0.450", "0.801", "0.507"] in rows(text)
    assert ["2", "0.317", "0.461", "0.813", "-0.041"] in rows(text)
    assert " ".join(text.split()).startswith(f"Training: {tutorial.title(source)} ")


@pytest.mark.parametrize("source", [TUTORIAL, DEMO])
def test_the_training_table_has_the_tutorials_times(printed, source):
    timed = HISTORY.assign(training_seconds=[210.4, 3599.7], validation_seconds=[7.04, 59.6])
    text = printed(console.print_training, timed, source)
    assert ["1", "0.500", "0.450", "0.801", "0.507", "3:30", "7.0", "s"] in rows(text)
    assert ["2", "0.317", "0.461", "0.813", "-0.041", "60:00", "1:00"] in rows(text)


def test_a_run_of_the_tutorials_corpus_and_encoder_is_comparable(printed):
    assert tutorial.comparable(TUTORIAL)
    text = printed(console.print_test, {"mcc": 0.5401, "sentences": 516}, ANALYSIS, TUTORIAL)
    assert "Test MCC: 0.540" in text
    assert "(cola, google-bert/bert-base-uncased; 516 sentences)" in text
    assert "95% interval: 0.461 to 0.612; without an encoder (words alone): 0.105" in text
    assert "the tutorial: 0.498; 26 public runs of its recipe: mean 0.540, 0.498 to 0.571" in text
    assert "comparable: corpus and encoder are the tutorial's own" in text
    assert "not comparable" not in text


@pytest.mark.parametrize("other", OTHERS)
def test_any_other_run_is_not_comparable(printed, other):
    assert not tutorial.comparable(OTHERS[other])
    text = printed(console.print_test, {"mcc": -0.0312, "sentences": 516}, ANALYSIS, OTHERS[other])
    assert "Test MCC: -0.031" in text
    assert "not comparable: " in text


def test_the_demo_is_not_comparable(printed):
    assert not tutorial.comparable(DEMO)
    text = " ".join(printed(console.print_test, {"mcc": 0.9, "sentences": 1000}, ANALYSIS, DEMO).split())
    assert "Test MCC: 0.900 (minimal_pairs, sentence-transformers/all-MiniLM-L6-v2; 1000 sentences)" in text
    assert "not comparable: the tutorial's are cola and google-bert/bert-base-uncased" in text


def test_another_revision_is_named_as_what_is_not_comparable(printed):
    assert "revision" in printed(console.print_test, {"mcc": 0.5, "sentences": 516}, ANALYSIS, OTHERS["revision"])


@pytest.mark.parametrize("source", [TUTORIAL, DEMO])
def test_the_samples_have_a_row_each(printed, source):
    text = printed(console.print_samples, SAMPLES, source)
    verdicts = [words[-4:] for words in rows(text) if words[-1:] in (["right"], ["wrong"])]
    assert verdicts == [
        ["unacceptable", "acceptable", "0.99", "wrong"],
        ["acceptable", "acceptable", "0.51", "right"],
    ]
    assert tutorial.title(source) in text
    assert all(sample["sentence"] in sentences(text, " ") for sample in SAMPLES), "square brackets are no markup"


@pytest.mark.parametrize("word", [r"\[bold]so", ":cat:", "Donaudampfschifffahrtsgesellschaft" * 2])
def test_a_sentence_is_shown_as_it_is(printed, word):
    text = printed(console.print_samples, [SAMPLES[0] | {"sentence": word}], TUTORIAL)
    assert word in sentences(text, "")


def test_the_learning_curve_draws_both_losses_by_epoch():
    (axes,) = figures.learning_curve(HISTORY).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {"training": [[1, 0.4996], [2, 0.3172]], "validation": [[1, 0.4503], [2, 0.4611]]}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]
    assert axes.get_xticks().tolist() == [1, 2]


def test_the_bars_are_the_mcc_of_each_batch():
    (axes,) = figures.mcc_per_batch(pd.DataFrame({"batch": [0, 1, 2], "mcc": [0.5, -0.25, 0.0]})).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch", "MCC")
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches]
    assert bars == [(pytest.approx(0), 0.5), (1, -0.25), (2, 0)]
    assert axes.get_ylim() == (-1, 1)


def test_the_confusion_matrix_counts_each_pair_of_label_and_prediction():
    right, wrong = ["acceptable"] * 5 + ["unacceptable"] * 3, ["acceptable"] * 3 + ["unacceptable"] * 4 + ["acceptable"]
    (axes,) = figures.confusion_matrix(pd.DataFrame({"label": right, "predicted": wrong})).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "label")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["acceptable", "unacceptable"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["acceptable", "unacceptable"]
    assert np.asarray(axes.images[0].get_array()).tolist() == [[3, 2], [1, 2]]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "3", (1, 0): "2", (0, 1): "1", (1, 1): "2"}


def test_a_label_that_is_never_predicted_has_its_zeros():
    predictions = pd.DataFrame({"label": ["acceptable", "unacceptable"], "predicted": ["acceptable"] * 2})
    (axes,) = figures.confusion_matrix(predictions).axes
    assert np.asarray(axes.images[0].get_array()).tolist() == [[1, 0], [1, 0]]


def test_every_picture_can_be_drawn(tmp_path):
    pictures = [
        figures.learning_curve(HISTORY),
        figures.mcc_per_batch(pd.DataFrame({"batch": [0], "mcc": [0.5]})),
        figures.confusion_matrix(pd.DataFrame({"label": ["acceptable"], "predicted": ["acceptable"]})),
    ]
    for number, picture in enumerate(pictures):
        picture.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")
    assert len(pictures) == 3


def test_mistakes_are_a_table(printed):
    mistakes = pd.DataFrame(
        {"sentence": ["He [b]left[/b]."], "label": ["bad"], "predicted": ["good"], "probability": [0.987]}
    )
    assert ["He", "[b]left[/b].", "bad", "good", "0.99"] in rows(printed(console.print_mistakes, mistakes))


def test_calibration_is_drawn_by_confidence():
    table = pd.DataFrame({"sentences": [3, 7], "confidence": [0.6, 0.9], "accuracy": [0.5, 1.0]})
    (axes,) = figures.calibration(table).axes
    assert [line.get_xydata().tolist() for line in axes.lines][1] == [[0.6, 0.5], [0.9, 1.0]]
    assert [text.get_text() for text in axes.texts] == ["3", "7"]


def test_sources_are_bars_with_their_publications():
    table = pd.DataFrame(
        {"source": ["own", "w_80"], "publication": ["", "Williams 1980"], "sentences": [1, 2], "mcc": [0.5, -0.25]}
    )
    (axes,) = figures.mcc_per_source(table).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Williams 1980 (2)", "own (1)"]
    assert [bar.get_width() for bar in axes.patches] == [-0.25, 0.5]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project under DVC, with no pipeline and no git."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report"])
    Repo.init(no_scm=True).close()


def test_a_result_is_printed_again_from_its_files(project, printed):
    paths.FINETUNED.mkdir(parents=True)
    files.write_json(paths.FINETUNED / "source.json", TUTORIAL)
    files.write_csv(paths.HISTORY, HISTORY)
    files.write_json(paths.TEST_METRICS, {"mcc": 0.5401, "sentences": 516})
    files.write_json(paths.ANALYSIS, ANALYSIS)
    files.write_json(paths.SAMPLES, SAMPLES)
    text = printed(console.main)
    assert ["2", "0.317", "0.461", "0.813", "-0.041"] in rows(text)
    assert "Test MCC: 0.540" in text
    assert ["acceptable", "0.99", "wrong"] in [words[-3:] for words in rows(text)]


def test_a_result_that_is_not_there_is_missed_in_one_line(project):
    with pytest.raises(UserError, match=r"^models/finetuned/source.json is not in the workspace .*; run `dvc repro`$"):
        console.main()


def test_outside_a_project_nothing_is_printed_but_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report", "demo"])
    with pytest.raises(UserError) as error:
        console.main()
    assert str(error.value).isprintable()
    assert str(error.value).startswith("models/finetuned/source.json is not in demo")
