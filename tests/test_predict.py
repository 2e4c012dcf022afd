"""`python -m cola.predict` as a user runs it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

from cola import artifacts, classifier, encoding
from cola.corpus import COLA_LABELS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def predict(project, *words):
    command = [sys.executable, "-m", "cola.predict", *words]
    return subprocess.run(
        command, cwd=project, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )


def train(project):
    encoder = project / "encoder"
    encoder.mkdir()
    tiny.encoder(encoder)
    with artifacts.directory(project / "models" / "finetuned") as folder:
        classifier.save(classifier.load(encoder, torch.device("cpu"), COLA_LABELS), folder)
        encoding.load_tokenizer(encoder).save_pretrained(folder)
        artifacts.write_json(folder / "source.json", {"corpus": {"name": "toy"}, "encoder": {"name": "tiny/bert"}})


def test_a_sentence_is_judged_and_the_model_named(project):
    train(project)
    answer = predict(project, "word1 isn't word2.")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(("acceptable (0.", "unacceptable (0."))
    assert answer.stdout.endswith("  word1 isn't word2.  [toy, tiny/bert]\n")
    assert answer.stderr == ""


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
    [([], "no sentence given"), ([" "], "no sentence given"), (["He left."], "models/finetuned has no trained model")],
)
def test_what_is_missing_is_said_in_one_line(project, words, fault):
    answer = predict(project, *words)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {fault}")
    assert answer.stderr.count("\n") == 1
