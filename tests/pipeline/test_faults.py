"""A fault while a stage runs ends it in one line and leaves nothing half-written; the next run goes on."""

import re
import sys

import pytest
from processes import run_to_end, small_disk
from project import change_settings, outputs, run_stage, tiny_encoder

from cola.core import files, paths

FIRST_OUTPUTS = {
    "fetch": "data/raw",
    "tokenize": "data/tokenized",
    "train": r"(\.dvc/tmp/checkpoints/\w+\.safetensors|models/finetuned)",  # a slow epoch ends with a checkpoint
    "evaluate": "metrics/test.json",
    "sample_predict": "metrics/samples.json",
}


@pytest.fixture
def project(applied, monkeypatch):
    monkeypatch.chdir(applied)
    return applied


@pytest.mark.parametrize("stage", FIRST_OUTPUTS)
def test_a_full_disk_ends_a_stage_in_one_line_and_leaves_the_old_outputs(project, stage):
    before = outputs(project)
    with small_disk(100), pytest.raises(SystemExit) as ended:
        run_stage(stage)
    expected = rf"error: {FIRST_OUTPUTS[stage]} cannot be written: File too large; fix that and run this again"
    assert re.fullmatch(expected, str(ended.value))
    assert outputs(project) == before
    assert len(before) > 15
    assert not list(project.rglob("*.partial"))


@pytest.mark.slow
def test_too_little_memory_is_one_line(project):
    with files.atomic_folder(paths.PRETRAINED) as folder:
        tiny_encoder(folder, intermediate_size=16_384)  # 5,400 sentences of about 8 tokens: 3 GB in each layer
        files.write_json(folder / "source.json", {"name": "tiny/bert", "revision": None})
    change_settings(project, train__batch_size=5_400)
    before = outputs(project)
    limited = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (1_500_000_000,) * 2)"  # bytes
    train = "import runpy; runpy.run_module('stages.train', run_name='__main__')"
    ended = run_to_end([sys.executable, "-c", f"{limited}; {train}"], project)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: out of memory: set train.micro_batch_tokens")
    assert "Traceback" not in ended.stderr
    assert outputs(project) == before


def test_a_diverging_training_publishes_no_model(project):
    change_settings(project, train__learning_rate=1e6, train__max_grad_norm=1e6)
    before = outputs(project)
    with pytest.raises(SystemExit, match=r"^error: step \d+ went wrong \(loss .*\): lower train.learning_rate$"):
        run_stage("train")
    assert outputs(project) == before
    assert not list(project.rglob("*.partial"))
