"""The whole pipeline with a tiny encoder: contracts, same bytes, security, damaged files."""

import importlib
import json
import secrets
import sys

import pytest
from processes import run_to_end
from project import check_contracts, copy_project, list_runs, outputs

from cola.core import errors


def test_a_whole_run_keeps_the_contracts_and_is_up_to_date(whole_run, run):
    check_contracts(whole_run, training=5_400, validation=600, epochs=1, steps_per_epoch=20)
    tokenizer = json.loads((whole_run / "models/finetuned/tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == 64, "what the model was trained for"
    _, (recorded,) = list_runs(whole_run)
    assert {"loss", "training_loss", "validation_mcc", "test_mcc", "tokens_per_second"} <= recorded.data.metrics.keys()
    assert "up to date" in run(whole_run, "dvc", "repro")


def test_a_run_changes_no_tracked_file_but_the_settings(whole_run, run):
    """In data/, models/ and metrics/, DVC would add missing lines to .gitignore."""
    status = run(whole_run, "git", "status", "--porcelain", "--untracked-files=all").splitlines()
    assert {" M params.yaml", "?? dvc.lock", "?? metrics/test.json"} <= set(status)
    assert [line for line in status[1:] if line != "?? dvc.lock" and not line.startswith("?? metrics/")] == []


SECRETS = {
    name: secrets.token_hex()
    for name in ("HF_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY")
}
# Python runs this file, sitecustomize.py, first.
AUDIT = """
import os, sys

def hook(event, arguments):
    if event == "pickle.find_class":
        with open(os.environ["PICKLES"], "a") as file:
            print(*sys.orig_argv[1:3], *arguments, file=file)

sys.addaudithook(hook)
"""


@pytest.mark.slow
def test_a_run_in_a_changed_environment_gives_the_same_bytes_loads_no_pickle_and_leaks_no_secret(
    applied, tmp_path, run
):
    before = outputs(applied)
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit/sitecustomize.py").write_text(AUDIT)
    audited = {"PYTHONPATH": str(tmp_path / "audit"), "PICKLES": str(tmp_path / "pickles")}
    changed = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    changed["OMP_NUM_THREADS"] = "2"  # as before
    (applied / "metrics/reference/mine.json").write_text('{"mcc": 0.5, "runs": [{"mc')  # costs a warning
    printed = run(applied, "dvc", "repro", "--force", **changed, **audited, **SECRETS)

    after = outputs(applied)
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert printed.count("Running stage '") == 6
    assert printed.count("warning: metrics/reference/mine.json is not a reference") == printed.count("Test MCC: ") == 1
    assert len(after) > 25

    canary = "import pickle, pathlib; pickle.loads(pickle.dumps(pathlib.Path()))"
    assert run_to_end([sys.executable, "-c", canary], **audited).returncode == 0
    pickles = (tmp_path / "pickles").read_text().splitlines()
    assert any(line.startswith("-c ") for line in pickles), "the hook sees nothing"
    assert [line for line in pickles if line.startswith("-m ")] == []

    files = [path for path in applied.rglob("*") if path.is_file() and ".venv" not in path.parts]
    assert applied / "mlflow.db" in files
    assert len(files) > 100
    for secret in SECRETS.values():
        assert secret not in printed
        assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_a_changed_byte_is_noticed_before_its_use_and_dvc_repro_restores_it(applied, run, monkeypatch):
    before = outputs(applied)
    monkeypatch.chdir(applied)
    monkeypatch.setattr(sys, "argv", ["predict", "She slept."])
    changed = (
        ("models/pretrained/model.safetensors", "stages.tokenize"),
        ("data/raw/train.csv", "stages.tokenize"),
        ("data/tokenized/train.parquet", "stages.train"),
        ("models/finetuned/model.safetensors", "stages.sample_predict"),
        ("data/tokenized/test.parquet", "stages.evaluate"),
        ("models/finetuned/config.json", "cola.predict"),
    )
    for name, command in changed:
        content = (applied / name).read_bytes()
        middle = len(content) // 2
        (applied / name).unlink()  # the file may be a link into the cache
        (applied / name).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(SystemExit) as ended:
            errors.run(importlib.import_module(command).main)
        (applied / name).write_bytes(content)
        assert str(ended.value) == f"error: {name} is not as it was written; `dvc repro` puts it right"
    (applied / "models/finetuned/model.safetensors").write_bytes(b"")
    assert "Stage 'train' is cached" in run(applied, "dvc", "repro")
    assert outputs(applied) == before


def test_a_wrong_setting_stops_the_pipeline_in_one_line(tmp_path, run):
    project = copy_project(tmp_path, fetch__corpus="minimal_pairs", train__epochs=0)
    printed = run(project, "dvc", "repro", fails=True)
    assert "error: params.yaml: train.epochs must be greater than or equal to 1, not 0" in printed
    assert "Traceback" not in printed
    assert not (project / "data/raw").exists()
