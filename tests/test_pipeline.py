"""The whole pipeline, as a user runs it: in a fresh copy of the project, through make and dvc."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from loopback import bert_base_checkpoint, hub
from mlflow.tracking import MlflowClient
from safetensors import safe_open
from transformers import pipeline

ROOT = Path(__file__).parents[1]
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def run(environment):
    def run(project, *command, fails=False, **variables):
        answer = subprocess.run(
            command, cwd=project, env=environment | variables, capture_output=True, text=True, check=False
        )
        assert (answer.returncode != 0) == fails, answer.stdout + answer.stderr
        return answer.stdout + answer.stderr

    return run


def copy_of_the_project(folder, **settings):
    """A clone as a user has it, with the environment of these tests, and with settings of params.yaml changed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\n"):
        if name and (ROOT / name).exists() and not name.startswith("metrics/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for key, value in settings.items():
        section, _, name = key.rpartition("__")
        (params[section] if section else params)[name] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "copy"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def outputs(project):
    """Every file that two runs must agree on, by content."""
    folders = ("data", "models", "metrics")
    files = [path for folder in folders for path in (project / folder).rglob("*") if path.is_file()]
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in files
        if path.name not in ("timings.json", ".gitignore")
    }


def check_contracts(project, *, training, validation, epochs, steps_per_epoch):
    """What the README promises of every output."""
    metrics = {path.name: json.loads(path.read_text()) for path in (project / "metrics").glob("*.json")}
    assert metrics.keys() == {
        "corpus.json",
        "train.json",
        "timings.json",
        "test.json",
        "analysis.json",
        "samples.json",
    }
    corpus = metrics["corpus.json"]
    assert (corpus["training_sentences"], corpus["validation_sentences"]) == (training, validation)
    assert corpus.keys() == {
        "training_sentences",
        "validation_sentences",
        "test_sentences",
        "test_positives",
        "longest_sentence",
        "mean_length",
        "truncated_sentences",
    }
    history = pd.read_csv(project / "metrics/history.csv")
    assert history["epoch"].to_list() == list(range(1, epochs + 1))
    last = history.iloc[-1].drop("epoch").to_dict()
    assert metrics["train.json"] == pytest.approx(last)
    assert list(last) == ["training_loss", "validation_loss", "validation_accuracy", "validation_mcc"]
    steps = pd.read_csv(project / "metrics/steps.csv")
    assert steps.columns.to_list() == ["step", "loss", "learning_rate", "gradient_norm"]
    assert steps["step"].to_list() == list(range(1, epochs * steps_per_epoch + 1))
    assert steps["learning_rate"].is_monotonic_decreasing
    assert metrics["timings.json"].keys() == {
        "training_seconds",
        "validation_seconds",
        "sentences_per_second",
        "tokens_per_second",
        "device",
        "precision",
    }
    test = metrics["test.json"]
    assert test.keys() == {"mcc", "accuracy", "macro_f1", "f1", "sentences", "positives"}
    predictions = pd.read_csv(project / "metrics/predictions.csv", keep_default_na=False)
    assert len(predictions) == test["sentences"] == corpus["test_sentences"]
    assert (predictions["label"] == predictions["predicted"]).mean() == pytest.approx(test["accuracy"])
    per_batch = pd.read_csv(project / "metrics/mcc_per_batch.csv")
    assert len(per_batch) == -(-test["sentences"] // 32)
    analysis = metrics["analysis.json"]
    assert analysis.keys() == {
        "mcc_low",
        "mcc_high",
        "calibration_error",
        "majority_accuracy",
        "bag_of_words_accuracy",
        "bag_of_words_mcc",
        "threshold",
        "threshold_mcc",
    }
    assert analysis["mcc_low"] <= test["mcc"] <= analysis["mcc_high"]
    for name in ("per_source", "calibration"):
        assert pd.read_csv(project / f"metrics/{name}.csv")["sentences"].sum() == test["sentences"]
    samples = metrics["samples.json"]
    assert len(samples) == 5
    for sample in samples:
        assert sample.keys() == {"sentence", "label", "predicted", "probability", "correct"}
        assert sample["correct"] == (sample["label"] == sample["predicted"])
    tokenized = pd.read_parquet(project / "data/tokenized/train.parquet")
    assert tokenized.columns.to_list() == ["sentence_source", "label", "sentence", "input_ids"]
    assert len(tokenized) == training
    classify = pipeline("text-classification", str(project / "models/finetuned"))
    for sample in samples:  # float32 and unpacked here: the decision is the same, the probability nearly
        answer = classify(sample["sentence"])[0]
        if abs(sample["probability"] - 0.5) > 0.02:
            assert answer["label"] == sample["predicted"]
        assert answer["score"] == pytest.approx(sample["probability"], abs=0.03)


@pytest.fixture(scope="module")
def demo(tmp_path_factory, environment):
    """A project in which `make demo` was run, with 20 steps of training; and what it printed."""
    project = copy_of_the_project(tmp_path_factory.mktemp("demo"), train__max_steps=20)
    answer = subprocess.run(["make", "demo"], cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return project, answer.stdout


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
def applied(demo, environment):
    """The demo's project with its result in the workspace."""
    project, _ = demo
    subprocess.run(["dvc", "exp", "apply", "demo"], cwd=project, env=environment, capture_output=True, check=True)
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
def forced(applied, tmp_path_factory, environment):
    """The outputs before every stage ran again in other surroundings; what was printed; what was unpickled."""
    before = outputs(applied)
    folder = tmp_path_factory.mktemp("audit")
    (folder / "sitecustomize.py").write_text(AUDIT)
    surroundings = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", **SECRETS}
    audited = {"PYTHONPATH": str(folder), "PICKLES": str(folder / "pickles")}
    printed = ""
    for command in (["dvc", "repro", "--force", "--single-item", "fetch"], ["make", "verify"]):
        answer = subprocess.run(
            command,
            cwd=applied,
            env=environment | surroundings | audited,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        printed += answer.stdout + answer.stderr
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


def test_a_changed_byte_is_noticed_before_it_is_used_and_put_right(applied, run):
    before = outputs(applied)
    for name, command in (
        ("models/pretrained/model.safetensors", ("python", "-m", "stages.tokenize")),
        ("data/raw/in_domain_train.tsv", ("python", "-m", "stages.tokenize")),
        ("data/tokenized/train.parquet", ("python", "-m", "stages.train")),
        ("models/finetuned/model.safetensors", ("python", "-m", "stages.sample_predict")),
        ("data/tokenized/test.parquet", ("python", "-m", "stages.evaluate")),
        ("models/finetuned/config.json", ("make", "predict", "TEXT=She slept.")),
    ):
        content = bytearray((applied / name).read_bytes())
        content[len(content) // 2] ^= 1
        (applied / name).unlink()  # it may be a link into the cache
        (applied / name).write_bytes(content)
        printed = run(applied, *command, fails=True)
        assert f"error: {name} is not as it was written; `dvc repro` puts it right" in printed
        assert "Traceback" not in printed
    run(applied, "dvc", "repro")
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
        printed = run(applied, "dvc", "repro", "--force", "--downstream", "train", **uri)
        assert printed.count("warning: not recorded in MLflow") == 3
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


@pytest.fixture(scope="module")
def own(tmp_path_factory, environment):
    """A project with sentences of its own: three classes, by name."""
    settings = {"fetch__corpus": "corpora/example", "fetch__encoder": MINILM, "train__learning_rate": 1e-4}
    project = copy_of_the_project(tmp_path_factory.mktemp("own"), **settings)
    answer = subprocess.run(["dvc", "repro"], cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return project


def test_sentences_of_ones_own_are_trained_on_like_any(own, run):
    test = json.loads((own / "metrics/test.json").read_text())
    assert test.keys() == {"mcc", "accuracy", "macro_f1", "sentences"}
    assert test["sentences"] == 24
    names = {"question", "request", "statement"}
    samples = json.loads((own / "metrics/samples.json").read_text())
    assert {sample["label"] for sample in samples} <= names
    assert pd.read_csv(own / "metrics/predictions.csv")["label"].value_counts().to_dict() == dict.fromkeys(names, 8)
    assert run(own, "make", "--silent", "predict", "TEXT=Is it late?").split()[0] in names
    assert "fine-tuned on example" in (own / "models/finetuned/README.md").read_text()
    client = MlflowClient(f"sqlite:///{own}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("bert-cola").experiment_id])
    assert found.data.tags["corpus"] == "example"


def test_a_result_that_was_pushed_is_pulled_without_training(own, run, tmp_path):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(own, "dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    run(own, "git", "add", "--all")
    run(own, "git", *identity, "commit", "--quiet", "--message", "a result")
    run(own, "dvc", "push")
    run(own, "git", "clone", "--quiet", str(own), str(tmp_path / "clone"))
    (tmp_path / "clone/.venv").symlink_to(Path(sys.executable).parents[1])
    printed = run(tmp_path / "clone", "dvc", "repro", "--pull")
    assert "Running stage" not in printed
    assert "up to date" in printed
    assert outputs(tmp_path / "clone") == outputs(own)


def test_a_change_in_corpora_is_noticed(own, run):
    file = own / "corpora/example/test.csv"
    text = file.read_text()
    file.write_text(text + "Sing louder!,request\n")
    assert "corpora" in run(own, "dvc", "status")
    file.write_text(text + "Sing louder!,order\n")
    printed = run(own, "dvc", "repro", fails=True)
    assert "error: corpora/example/test.csv, line 26: label 'order' does not occur among the training" in printed
    file.write_text(text)
    assert "Stage 'fetch' is cached" in run(own, "dvc", "repro")


def test_seeds_are_trained_through_the_queue_and_summed_up(own, run):
    printed = run(own, "make", "seeds", "N=2")
    assert "Not comparable with the tutorial's" in printed
    found = json.loads((own / "metrics/seeds.json").read_text())
    assert found["mcc"].keys() == {"1", "2"}
    assert found["mean"] == pytest.approx(sum(found["mcc"].values()) / 2)
    assert (own / "metrics/seeds.png").read_bytes().startswith(b"\x89PNG")
    client = MlflowClient(f"sqlite:///{own}/mlflow.db")
    experiment = client.get_experiment_by_name("bert-cola").experiment_id
    (parent,) = client.search_runs([experiment], "attributes.run_name = '2 seeds'")
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert {child.info.run_name for child in children} == {"seed-1", "seed-2"}
    assert {child.data.metrics["test_mcc"] for child in children} == set(found["mcc"].values())
    assert parent.data.metrics["test_mcc_mean"] == found["mean"]
    table = run(own, "make", "table", COLUMNS="150")
    for words in ("Experiment", "mcc", "seed-1", "seed-2"):
        assert words in table


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


def test_cola_with_a_small_encoder_by_the_tutorials_recipe(mirror, tmp_path, run):
    project = copy_of_the_project(tmp_path, fetch__encoder=MINILM)
    printed = run(project, "dvc", "repro", COLA_MIRROR=str(mirror.parent))
    check_contracts(project, training=7_695, validation=856, epochs=4, steps_per_epoch=241)
    corpus = json.loads((project / "metrics/corpus.json").read_text())
    assert (corpus["test_sentences"], corpus["test_positives"], corpus["longest_sentence"]) == (516, 354, 47)
    assert corpus["truncated_sentences"] == 0
    history = pd.read_csv(project / "metrics/history.csv")
    assert history["training_loss"].is_monotonic_decreasing
    assert json.loads((project / "metrics/test.json").read_text())["mcc"] > 0.1
    assert "not comparable" in printed
    assert "up to date" in run(project, "dvc", "repro")


def test_bert_base_from_a_hub_is_trained_with_the_weights_it_was_given(
    mirror, encoder_folder, tmp_path, tmp_path_factory, run
):
    """A look-alike of google-bert/bert-base-uncased, of true names, shapes and sizes: its own revision, not pinned."""
    served = tmp_path_factory.mktemp("hub")
    bert_base_checkpoint(served, seed=7, vocabulary=encoder_folder / "vocab.txt")
    name, revision, steps = "google-bert/bert-base-uncased", "c" * 40, 3
    project = copy_of_the_project(tmp_path, fetch__encoder_revision=revision, train__max_steps=steps)
    with hub(name, revision, served) as server:
        printed = run(project, "make", "repro", HF_ENDPOINT=server.url, COLA_MIRROR=str(mirror.parent))
    assert "not comparable" in printed
    assert len(pd.read_csv(project / "metrics/steps.csv")) == steps
    arrived = 0
    with (
        safe_open(served / "model.safetensors", "numpy") as given,
        safe_open(project / "models/finetuned/model.safetensors", "numpy") as trained,
    ):
        assert len(trained.keys()) == 201
        for tensor in given.keys():  # noqa: SIM118 - safe_open is no dict
            if tensor.startswith("cls."):
                continue
            new = tensor.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            moved = np.abs(given.get_tensor(tensor) - trained.get_tensor(new)).max()
            # AdamW moves a weight by about the learning rate a step, whatever its gradient.
            assert moved <= 1.5 * steps * 2e-5, tensor
            arrived += 1
    assert arrived == 199
