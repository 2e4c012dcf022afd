"""A fault while a stage runs ends it in one line and leaves nothing half-written; the next run goes on."""

import re
import subprocess
import sys

import pytest
from processes import finished, small_disk
from project import MINILM, change_settings, copy_of_the_project, outputs, run_stage, tiny_encoder

from cola.core import errors, files, paths
from cola.train import checkpoint

REFUSED = {  # what each stage writes first
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


@pytest.mark.parametrize("stage", REFUSED)
def test_a_full_disk_ends_a_stage_in_one_line_and_leaves_what_was_there(project, stage):
    before = outputs(project)
    with small_disk(100), pytest.raises(SystemExit) as ended:
        run_stage(stage)
    expected = rf"error: {REFUSED[stage]} cannot be written: File too large; fix that and run `dvc repro`"
    assert re.fullmatch(expected, str(ended.value))
    assert outputs(project) == before
    assert len(before) > 15
    assert not list(project.rglob("*.partial"))


def test_a_full_disk_costs_no_more_than_the_steps_after_the_last_checkpoint(project, monkeypatch):
    expected = outputs(project)
    monkeypatch.setattr(checkpoint, "FOLDER", project / ".dvc/tmp/checkpoints")
    save, saved = checkpoint.save, []

    def full_at_the_third(path, *arguments):
        if len(saved) == 2:
            raise errors.UserError("the checkpoint cannot be written: No space left on device")
        saved.append(path)
        save(path, *arguments)

    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "save", full_at_the_third)
    with pytest.raises(SystemExit, match="No space left on device"):
        run_stage("train")
    (path,) = (project / ".dvc/tmp/checkpoints").glob("*.safetensors")
    assert checkpoint.read_progress(path).steps_done > 1
    monkeypatch.setattr(checkpoint, "save", save)
    run_stage("train")
    assert outputs(project) == expected
    assert not path.exists()


@pytest.mark.slow
def test_too_little_memory_is_one_line(project):
    with files.atomic_folder(paths.PRETRAINED) as folder:
        tiny_encoder(folder, intermediate_size=16_384)  # 5,400 sentences of about 8 tokens: 3 GB in each layer
        files.write_json(folder / "source.json", {"name": "tiny/bert", "revision": None})
    change_settings(project, train__batch_size=5_400)
    before = outputs(project)
    limited = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (1_500_000_000,) * 2)"  # bytes
    train = "import runpy; runpy.run_module('stages.train', run_name='__main__')"
    ended = finished([sys.executable, "-c", f"{limited}; {train}"], project)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: out of memory: set train.micro_batch_tokens")
    assert "Traceback" not in ended.stderr
    assert outputs(project) == before


def test_a_training_that_diverges_publishes_no_model(project):
    change_settings(project, train__learning_rate=1e6, train__max_grad_norm=1e6)
    before = outputs(project)
    with pytest.raises(SystemExit, match=r"^error: step \d+ went wrong \(loss .*\): lower train.learning_rate$"):
        run_stage("train")
    assert outputs(project) == before
    assert not list(project.rglob("*.partial"))


@pytest.mark.torture
def test_dvc_repro_goes_on_as_the_disk_grows(tmp_path, environment, run):
    """On a disk of 120 MB, more each time, then enough: 'No space left' in what fails, then any other run's bytes.

    What DVC was copying to its cache when the disk filled stays there, a .tmp, and takes room of its own.
    """
    settings = {"fetch__corpus": "minimal_pairs", "fetch__encoder": MINILM, "train__epochs": 1, "train__max_steps": 5}
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120m", "none", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        (tmp_path / "whole").mkdir()
        whole = copy_of_the_project(tmp_path / "whole", **settings)
        run(whole, "dvc", "repro")
        project = copy_of_the_project(disk, **settings)
        failed = []
        for size in (*range(120, 361, 40), 1_500):  # MB
            subprocess.run(["mount", "-o", f"remount,size={size}m", disk], check=True)
            answer = subprocess.run(
                ["dvc", "repro"], cwd=project, env=environment, capture_output=True, text=True, check=False
            )
            assert not list(project.rglob("*.partial"))
            if answer.returncode == 0:
                break
            printed = answer.stdout + answer.stderr
            assert "No space left on device" in printed, printed
            assert "Traceback" not in printed, printed
            failed.append(size)
        assert answer.returncode == 0
        assert len(failed) > 3
        assert outputs(project) == outputs(whole)
        print(f"\n{len(failed)} runs ended with a full disk, then one ended well")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
