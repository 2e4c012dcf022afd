"""The whole pipeline, as a user runs it: in a fresh copy of the project, through make and dvc."""

import importlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from mlflow.tracking import MlflowClient
from project import MINILM, check_contracts, copy_of_the_project, outputs

from cola.core import errors


@pytest.fixture(scope="module")
def demo(tmp_path_factory, run):
    """A project in which `make demo` was run, with 20 steps of training; and what it printed."""
    project = copy_of_the_project(tmp_path_factory.mktemp("demo"), train__max_steps=20)
    return project, run(project, "make", "demo")


def test_the_demo_prints_its_result_and_leaves_the_workspace_clean(demo, run):
    project, printed = demo
    end = printed[printed.rindex("Training: ") :]
    assert end.startswith(f"Training: minimal_pairs, {MINILM}")
    assert "Test MCC: " in end
    assert "not comparable" in end
    assert end.count("right") + end.count("wrong") == 5
    assert "make ui" in end
    assert run(project, "git", "status", "--porcelain") == ""
    assert not (project / "models").exists()


def test_the_demo_is_a_run_in_mlflow(demo):
    project, _ = demo
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("bert-cola").experiment_id])
    assert run.info.run_name == "demo"
    assert run.data.tags["corpus"] == "minimal_pairs"
    assert run.data.tags["encoder"] == MINILM
    assert run.data.tags["DVC_EXP_NAME"] == "demo"
    assert len(run.data.tags["git.commit"]) == 40
    assert run.data.params["train.max_steps"] == "20"
    assert {"loss", "training_loss", "validation_mcc", "test_mcc", "tokens_per_second"} <= run.data.metrics.keys()
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"history.csv", "samples.json", "learning_curve.png", "confusion_matrix.png"} <= artifacts


def test_a_second_demo_comes_from_the_cache(demo, run):
    project, printed = demo
    again = run(project, "make", "demo")
    for stage in ("fetch", "tokenize", "train", "evaluate"):
        assert f"Stage '{stage}' is cached - skipping run" in again
    result = slice(printed.rindex("Training: "), printed.rindex("Look further"))
    assert printed[result] in again


@pytest.fixture(scope="module")
def applied(demo, run):
    """The demo's project with its result in the workspace."""
    project, _ = demo
    run(project, "dvc", "exp", "apply", "demo")
    return project


def test_the_demo_applied_is_a_whole_result_and_is_up_to_date(applied, run):
    check_contracts(applied, training=5_400, validation=600, epochs=1, steps_per_epoch=20)
    assert "up to date" in run(applied, "make", "repro")
    assert "acceptable" in run(applied, "make", "--silent", "predict", 'TEXT=The key\'s "here".')
    assert "mcc" in run(applied, "dvc", "metrics", "show")


SECRETS = {
    name: secrets.token_hex()
    for name in ("HF_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY")
}
# Runs in each Python that starts with it on its path, before anything else.
AUDIT = """
import os, sys

def hook(event, arguments):
    if event == "pickle.find_class":
        with open(os.environ["PICKLES"], "a") as file:
            print(*sys.orig_argv[1:3], *arguments, file=file)

sys.addaudithook(hook)
"""


@pytest.fixture(scope="module")
def forced(applied, tmp_path_factory, run):
    """The outputs before every stage ran again in other surroundings; what was printed; what was unpickled."""
    before = outputs(applied)
    folder = tmp_path_factory.mktemp("audit")
    (folder / "sitecustomize.py").write_text(AUDIT)
    audited = {"PYTHONPATH": str(folder), "PICKLES": str(folder / "pickles")}
    surroundings = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", **SECRETS, **audited}
    printed = run(applied, "dvc", "repro", "--force", "--single-item", "fetch", **surroundings)
    printed += run(applied, "make", "verify", **surroundings)
    canary = "import pickle, pathlib; pickle.loads(pickle.dumps(pathlib.Path()))"
    subprocess.run([sys.executable, "-c", canary], env=audited, check=True)
    return before, printed, (folder / "pickles").read_text().splitlines()


def test_a_forced_run_gives_the_same_bytes(forced, applied):
    before, printed, _ = forced
    after = outputs(applied)
    assert len(before) > 15
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert "files are the same twice, byte for byte" in printed
    for stage in ("fetch", "tokenize", "train", "evaluate", "sample_predict"):
        assert f"Running stage '{stage}'" in printed


def test_no_stage_loads_a_pickle(forced):
    _, _, pickles = forced
    assert any(line.startswith("-c ") for line in pickles), "the hook sees nothing"
    assert [line for line in pickles if line.startswith("-m ")] == []


def test_no_secret_of_the_environment_is_written_anywhere(forced, applied):
    _, printed, _ = forced
    files = [path for path in applied.rglob("*") if path.is_file() and ".venv" not in path.parts]
    assert applied / "mlflow.db" in files
    assert len(files) > 100
    for secret in SECRETS.values():
        assert secret not in printed
        assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_pictures_are_drawn_without_a_network(applied, run):
    run(applied, "dvc", "plots", "show")
    page = (applied / "dvc_plots/index.html").read_text()
    assert 'src="http' not in page
    assert "window.vegaEmbed=" in page.replace(" ", "")
    assert page.count("vegaEmbed('#") == 7
    run(applied, "make", "report")
    assert "<svg" in (applied / "report.html").read_text()


def test_a_changed_byte_is_noticed_before_it_is_used_and_put_right(applied, run, monkeypatch):
    before = outputs(applied)
    monkeypatch.chdir(applied)
    monkeypatch.setattr(sys, "argv", ["predict", "She slept."])
    for name, command in (
        ("models/pretrained/model.safetensors", "stages.tokenize"),
        ("data/raw/in_domain_train.tsv", "stages.tokenize"),
        ("data/tokenized/train.parquet", "stages.train"),
        ("models/finetuned/model.safetensors", "stages.sample_predict"),
        ("data/tokenized/test.parquet", "stages.evaluate"),
        ("models/finetuned/config.json", "cola.predict"),
    ):
        content = (applied / name).read_bytes()
        middle = len(content) // 2
        (applied / name).unlink()  # it may be a link into the cache
        (applied / name).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(SystemExit) as ended:
            errors.run(importlib.import_module(command).main)
        (applied / name).write_bytes(content)
        assert str(ended.value) == f"error: {name} is not as it was written; `dvc repro` puts it right"
    (applied / "models/finetuned/model.safetensors").write_bytes(b"")
    assert "Stage 'train' is cached" in run(applied, "dvc", "repro")
    assert outputs(applied) == before


def listening(port):
    """The addresses on which somebody listens at a port."""
    connections = psutil.net_connections("tcp")
    return {each.laddr.ip for each in connections if each.status == "LISTEN" and each.laddr.port == port}


def test_mlflow_listens_here_alone_and_what_it_misses_is_recorded_later(applied, environment, run):
    before = outputs(applied)
    (applied / "mlflow.db").unlink()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (applied.parent / "ui.log").open("w") as log:
        server = subprocess.Popen(
            ["make", "ui", f"PORT={port}"], cwd=applied, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        while not listening(port) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert listening(port) == {"127.0.0.1"}
        client = MlflowClient(f"http://127.0.0.1:{port}")
        client.search_experiments()  # it answers

        os.killpg(server.pid, signal.SIGSTOP)  # it accepts, and never answers
        uri = {"MLFLOW_TRACKING_URI": f"http://name:word@127.0.0.1:{port}"}
        printed = run(applied, "dvc", "repro", "--force", "--single-item", "train", **uri)
        assert printed.count("warning: not recorded in MLflow") == 1
        assert "name:word" not in printed
        assert outputs(applied) == before
        os.killpg(server.pid, signal.SIGCONT)

        printed = run(applied, "make", "track", **uri)
        assert printed.count("recorded in MLflow: the ") == 3
        (found,) = client.search_runs([client.get_experiment_by_name("bert-cola").experiment_id])
        assert found.data.metrics["test_mcc"] == json.loads((applied / "metrics/test.json").read_text())["mcc"]
        assert "recorded in MLflow" not in run(applied, "make", "track", **uri)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_only_results_of_these_settings_are_recorded(applied, run):
    text = (applied / "params.yaml").read_text()
    (applied / "params.yaml").write_text(text.replace("max_steps: 20", "max_steps: 21"))
    try:
        printed = run(applied, "make", "track", fails=True)
    finally:
        (applied / "params.yaml").write_text(text)
    assert "error: the results are not those of params.yaml and this code" in printed


def test_editing_the_maths_of_training_puts_it_out_of_date(applied, run):
    module = applied / "cola/training.py"
    text = module.read_text()
    module.write_text(text.replace("return 1 - step / total_steps", "return 1.0"))
    try:
        status = run(applied, "dvc", "status")
    finally:
        module.write_text(text)
    assert "train" in status
    assert "cola/training.py" in status
    assert "tokenize" not in status


def test_a_wrong_setting_stops_the_pipeline_in_one_line(tmp_path, run):
    project = copy_of_the_project(tmp_path, fetch__corpus="minimal_pairs", train__epochs=0)
    printed = run(project, "dvc", "repro", fails=True)
    assert "error: params.yaml: train.epochs: Input should be greater than or equal to 1 (got 0)" in printed
    assert "Traceback" not in printed
    assert not (project / "data" / "raw").exists()


def test_where_nothing_can_be_reached_the_two_ways_on_are_named(tmp_path, run):
    project = copy_of_the_project(tmp_path, fetch__corpus="minimal_pairs")
    printed = run(project, "make", "repro", fails=True, HF_ENDPOINT="http://127.0.0.1:9")
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "google-bert/bert-base-uncased" in line
    assert "COLA_MIRROR" in line
    assert "make demo" in line
    assert "Traceback" not in printed
