"""`python -m cola.predict`, in this process except for the slow tests."""

import csv
import io
import re
import sys

import pandas as pd
import pytest
import tiny
import torch
from processes import run_to_end
from project import ROOT

import cola.predict
from cola.core import errors, files
from cola.data import encoding
from cola.fetch.tables import COLA_LABELS
from cola.model import classifier

MAX_LENGTH = 16  # tokens


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project's folder with params.yaml and a model whose probabilities differ by sentence."""
    project = tmp_path_factory.mktemp("project")
    settings = (ROOT / "params.yaml").read_text().replace("precision: auto", "precision: float32")
    (project / "params.yaml").write_text(settings)
    (project / "encoder").mkdir()
    tiny.encoder(project / "encoder")
    torch.manual_seed(0)
    model = classifier.load(project / "encoder", torch.device("cpu"), COLA_LABELS)
    torch.nn.init.normal_(model.classifier.weight, std=2)
    tokenizer = encoding.load_tokenizer(project / "encoder")
    tokenizer.model_max_length = MAX_LENGTH
    with files.atomic_folder(project / "models" / "finetuned") as folder:
        classifier.save(model, folder)
        tokenizer.save_pretrained(folder)
        files.write_json(folder / "source.json", {"corpus": {"name": "toy"}, "encoder": {"name": "tiny/bert"}})
    return project


@pytest.fixture
def predict(trained, tmp_path, monkeypatch, capsys):
    """A function that runs the command in the project, with the bytes `given` as input, and returns its output.

    Its attribute `errors` has the last call's standard error.
    """

    def call(*words, given=b"", folder=trained):
        (tmp_path / "input").write_bytes(given)
        with (tmp_path / "input").open() as file, monkeypatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["predict", *words])
            patch.setattr(sys, "stdin", file)
            errors.run(cola.predict.main)
        printed, call.errors = capsys.readouterr()
        return printed

    return call


def test_lines_of_standard_input_become_rows(predict):
    lines = [f"word{number % 35}, word{number * 7 % 35}" for number in range(9_000)]  # more than two chunks
    lines[5] = ""  # a row without a label
    printed = predict(given="\ufeff".encode() + "\r\n".join(lines).encode())
    table = pd.read_csv(io.StringIO(printed), keep_default_na=False)
    assert table.columns.to_list() == ["text", "label", "probability"]
    assert table["text"].to_list() == lines
    assert table.loc[5].to_list() == ["", "", ""]
    classified = table.drop(index=5)
    assert set(classified["label"]) <= {"acceptable", "unacceptable"}
    assert classified["probability"].astype(float).between(0.5, 1).all()
    surest = classified.loc[classified["probability"].astype(float).idxmax()]
    assert float(surest["probability"]) > 0.55  # rounding of a single sentence cannot change its label
    assert predict(surest["text"]).startswith(surest["label"] + " (")


def test_texts_that_the_model_does_not_read_to_their_end_are_noted(predict):
    texts = [" ".join(["word1"] * words) for words in (13, 14, 15, 30)]  # with [CLS] and [SEP], 14 words are 16 tokens
    predict(given="\n".join(texts).encode())
    assert predict.errors.endswith("note: sentences with more tokens than the training's 16, which are cut: 2\n")
    predict(texts[2])
    assert predict.errors == "note: sentences with more tokens than the training's 16, which are cut: 1\n"
    predict(texts[1])
    assert predict.errors == ""


def test_a_line_is_written_unchanged(predict):
    """A carriage return within a line is no line break, neither here nor for readers of CSV."""
    lines = ["word1\rword2", "  word3 ", '"word4", word5', "\x1b[31mword6 é 日本"]
    printed = predict(given="\r\n".join(lines).encode())
    rows = list(csv.reader(io.StringIO(printed, newline="")))
    assert [row[0] for row in rows] == ["text", *lines]
    assert pd.read_csv(io.StringIO(printed))["text"].to_list() == lines


@pytest.mark.parametrize(
    ("is_terminal", "shown"),
    [(False, "word1 \x1b]0;evil\x07 \u202e é 日"), (True, r"word1 \x1b]0;evil\x07 \u202e \xe9 \u65e5")],
)
def test_a_file_gets_utf_8_and_a_terminal_gets_escapes(predict, monkeypatch, is_terminal, shown):
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(output, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stdout", output)
    predict("word1 \x1b]0;evil\x07 \u202e é 日")
    output.flush()
    assert f"  {shown}  [toy, tiny/bert]\n" in output.buffer.getvalue().decode()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_sentences(trained):
    """The peaks of 10,000 and 50,000 sentences differ by less than 30 MB."""
    code = (
        "import resource, sys, cola.predict; cola.predict.main(); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    peaks = []
    for count in (10_000, 50_000):
        sentences = f"yes word1 word2 word3 | head -{count}"
        answer = run_to_end(["sh", "-c", f'{sentences} | "$0" -c "$1"', sys.executable, code], trained)
        assert answer.stdout.count("\n") == count + 1, answer.stderr
        peaks.append(int(answer.stderr.split()[-1]))  # kB
    assert peaks[1] - peaks[0] < 30_000


@pytest.mark.parametrize(
    ("words", "lines", "message"),
    [
        ([""], b"", 'no sentence given; try: make predict TEXT="The book was written by John."'),
        ([" "], b"", 'no sentence given; try: make predict TEXT="The book was written by John."'),
        (["word\udcff"], b"", "the sentence: not UTF-8 (byte 0xff)"),
        ([], b"word1\nword\xff\n", "standard input, line 2: not UTF-8 (byte 0xff)"),
        ([], "word1\nword2\n".encode("utf-16-le"), "standard input, line 1: not UTF-8 (byte 0x0, as in UTF-16)"),
    ],
)
def test_wrong_input_is_refused_in_one_line(predict, words, lines, message):
    with pytest.raises(SystemExit, match=f"^error: {re.escape(message)}$"):
        predict(*words, given=lines)


def test_help_is_shown(predict):
    assert "python -m cola.predict < sentences.txt > predicted.csv" in predict("--help")


def test_a_project_without_a_model_says_how_to_train(predict, tmp_path):
    with pytest.raises(
        SystemExit, match=r"^error: the workspace has no trained model: run `make repro`, or `make demo` and .*$"
    ):
        predict("He left.", folder=tmp_path)


def test_a_python_without_the_packages_is_told_to_take_the_environment():
    answer = run_to_end([sys.executable, "-S", "-m", "cola.predict", "He left."])
    assert answer.returncode == 1
    assert re.fullmatch(
        r"error: \S+ has no package torch: run `make .venv && source .venv/bin/activate`, .*\n", answer.stderr
    )
