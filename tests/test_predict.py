"""`python -m cola.predict` as a user runs it."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch

import cola.predict
from cola.core import errors, files
from cola.data import encoding
from cola.data.corpus import COLA_LABELS
from cola.model import classifier

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def predict(project, *words, given=None):
    command = [sys.executable, "-m", "cola.predict", *words]
    answer = subprocess.run(
        command, cwd=project, env={"PYTHONPATH": str(ROOT)}, input=given, capture_output=True, check=False
    )
    answer.stdout, answer.stderr = answer.stdout.decode(), answer.stderr.decode()
    return answer


def train(project):
    encoder = project / "encoder"
    encoder.mkdir()
    tiny.encoder(encoder)
    torch.manual_seed(0)
    model = classifier.load(encoder, torch.device("cpu"), COLA_LABELS)
    torch.nn.init.normal_(model.classifier.weight, std=2)  # so that it is sure of something
    with files.atomic_folder(project / "models" / "finetuned") as folder:
        classifier.save(model, folder)
        encoding.load_tokenizer(encoder).save_pretrained(folder)
        files.write_json(folder / "source.json", {"corpus": {"name": "toy"}, "encoder": {"name": "tiny/bert"}})


def test_a_sentence_is_judged_and_the_model_named(project):
    train(project)
    answer = predict(project, "word1 isn't word2.")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(("acceptable (0.", "unacceptable (0."))
    assert answer.stdout.endswith("  word1 isn't word2.  [toy, tiny/bert]\n")
    assert answer.stderr == ""


def test_lines_of_standard_input_become_rows(project):
    train(project)
    lines = [f"word{number % 35}, word{number * 7 % 35}" for number in range(9_000)]  # more than two chunks
    lines[5] = ""
    answer = predict(project, given="\ufeff".encode() + "\r\n".join(lines).encode())
    assert answer.returncode == 0, answer.stderr
    table = pd.read_csv(io.StringIO(answer.stdout), keep_default_na=False)
    assert table.columns.to_list() == ["text", "label", "probability"]
    assert table["text"].to_list() == lines
    assert table.loc[5].to_list() == ["", "", ""]
    judged = table.drop(index=5)
    assert set(judged["label"]) <= {"acceptable", "unacceptable"}
    assert judged["probability"].astype(float).between(0.5, 1).all()
    surest = judged.loc[judged["probability"].astype(float).idxmax()]
    assert float(surest["probability"]) > 0.55  # enough that float32, of one sentence alone, does not decide otherwise
    assert predict(project, surest["text"]).stdout.startswith(surest["label"] + " (")


def test_a_line_that_is_no_text_is_named(project):
    train(project)
    answer = predict(project, given=b"word1\nword\xff\n")
    assert answer.returncode == 1
    assert answer.stderr == "error: standard input, line 2: not UTF-8 (byte 0xff)\n"


def test_memory_does_not_grow_with_the_number_of_sentences(project):
    """The same peak, within 30 MB, for 10,000 sentences and for 50,000."""
    train(project)
    code = (
        "import resource, cola.predict\ncola.predict.main()\nimport sys\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    peaks = []
    for count in (10_000, 50_000):
        answer = subprocess.run(
            [sys.executable, "-c", code],
            cwd=project,
            env={"PYTHONPATH": str(ROOT)},
            input=b"word1 word2 word3\n" * count,
            capture_output=True,
            check=True,
        )
        assert answer.stdout.count(b"\n") == count + 1
        peaks.append(int(answer.stderr.split()[-1]))  # kB
    assert peaks[1] - peaks[0] < 30_000


def test_a_text_longer_than_the_model_reads_is_cut(project):
    train(project)
    assert predict(project, "word1 " * 1000).returncode == 0


def test_a_model_of_which_a_byte_has_changed_is_not_used(project):
    train(project)
    weights = project / "models/finetuned/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    answer = predict(project, "word1")
    assert (answer.returncode, answer.stdout) == (1, "")
    changed = "models/finetuned/model.safetensors is not as it was written; `dvc repro` puts it right"
    assert answer.stderr == f"error: {changed}\n"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([""], "no sentence given"),
        ([" "], "no sentence given"),
        (["He left."], "models/finetuned has no trained model"),
    ],
)
def test_what_is_missing_is_said_in_one_line(project, words, fault, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["predict", *words])
    with pytest.raises(SystemExit, match=f"^error: {fault}.*$") as ended:
        errors.run(cola.predict.main)
    assert "\n" not in str(ended.value)
