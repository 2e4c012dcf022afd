"""Records of trainings in a real MLflow on SQLite."""

import multiprocessing
import os
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from project import list_runs
from results import SOURCE, write_results

from cola.core import files, paths
from cola.core.errors import UserError
from cola.report import mlflow_logger, mlflow_runs, mlflow_store, workspace


def list_artifact_names(client, run):
    return {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


def test_a_training_is_one_run_in_the_main_project(root, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "demo")
    write_results(b"abc")
    mlflow_logger.record("training")
    client, (run,) = list_runs(root)
    assert run.info.run_name == "demo"
    assert run.info.status == "FINISHED"
    assert (run.data.params["train.epochs"], run.data.params["seed"]) == ("4", "42")
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    assert tags.pop("DVC_EXP_NAME") == "demo"
    assert len(tags.pop("training.digest")) == 64
    assert tags == {
        "corpus": "cola",
        "encoder": "tiny/bert",
        "encoder.revision": "a" * 40,
        "encoder.sha256": "b" * 64,
        "device": "cpu, 2 threads",
        "precision": "float32",
        "model.sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",  # FIPS 180-2: of "abc"
    }
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.1 + 0.2), (2, 0.6)]
    assert run.data.metrics["validation_mcc"] == 0.25
    assert run.data.metrics["training_seconds"] == 3.0
    assert list_artifact_names(client, run) == {
        "corpus.json", "train.json", "history.csv", "steps.csv", "timings.json", "learning_curve.png"
    }  # fmt: skip
    datasets = [(read.dataset.digest, read.tags[0].value) for read in run.inputs.dataset_inputs]
    assert sorted(datasets) == [("1" * 36, "train"), ("2" * 36, "validation"), ("3" * 36, "test")]
    assert {read.dataset.name for read in run.inputs.dataset_inputs} == {"cola"}
    assert (root / "mlruns").is_dir()
    assert not Path("mlruns").exists(), "MLflow wrote into DVC's copy of the project"


def train():
    """Record a training that ended before MLflow was imported, so that its run has to be created at the end."""
    run = mlflow_runs.TrainingRun({"seed": 42}, SOURCE, {"device": "cpu", "precision": "float32"}, resumed=False)
    assert mlflow_store.try_log(lambda store: mlflow_runs.log_training(store, run)) is None


@pytest.mark.parametrize("arguments", [[], ["--help"], ["ui"]])
def test_an_unknown_command_records_nothing(monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["mlflow_runs", *arguments])
    with pytest.raises(UserError, match=r"^what shall MLflow do\? make ui, or make track$"):
        mlflow_runs.main()


def test_trainings_of_the_same_model_are_separate_runs(root, monkeypatch):
    write_results()
    for name in ("copy1", "copy2"):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        train()
    assert sorted(run.info.run_name for run in list_runs(root)[1]) == ["copy1", "copy2"]


def test_scores_and_samples_go_to_the_newest_run_that_trained_the_model(root):
    for weights in (b"one", b"one", b"two"):
        write_results(weights)
        train()
    write_results(b"one")
    mlflow_logger.record("evaluation")
    mlflow_logger.record("samples")
    client, recorded = list_runs(root)
    by_start = sorted(recorded, key=lambda run: run.info.start_time)
    assert ["test_mcc" in run.data.metrics for run in by_start] == [False, True, False]
    assert ["samples.json" in list_artifact_names(client, run) for run in by_start] == [False, True, False]
    pictures = {"mcc_per_batch.png", "confusion_matrix.png", "calibration.png", "per_source.png"}
    tables = {"test.json", "analysis.json", "predictions.csv", "per_source.csv", "calibration.csv"}
    assert pictures | tables <= list_artifact_names(client, by_start[1])


def test_scores_of_a_model_without_a_run_record_its_training_too(root):
    for mcc in (0.25, 0.5):
        write_results(mcc=mcc)
        mlflow_logger.record("evaluation")
    client, (run,) = list_runs(root)
    assert {name: value for name, value in run.data.metrics.items() if name.startswith("test_")} == {
        "test_mcc": 0.5,
        "test_mcc_low": 0.1234,
        "test_mcc_high": 0.7,
        "test_sentences": 2,
        "test_calibration_error": 0.125,
        "test_bag_of_words_mcc": 0.1,
    }
    assert (run.data.tags["encoder"], run.data.metrics["loss"]) == ("tiny/bert", 0.6)
    assert run.info.status == "FINISHED"
    assert {"learning_curve.png", "confusion_matrix.png"} <= list_artifact_names(client, run)


def record_samples(folder, together):
    """Record from a project's copy, in one process of several that wait for each other."""
    folder.mkdir()
    os.chdir(folder)
    write_results(folder.name.encode())
    paths.PARAMS.write_text(paths.PARAMS.read_text().replace("seed: 42", f"seed: {len(folder.name)}"))
    together.wait()
    mlflow_logger.record("samples")


@pytest.mark.slow
def test_two_first_records_at_once_share_one_database(bare_root):
    fork = multiprocessing.get_context("fork")  # MLflow is already imported there
    together = fork.Barrier(2)
    folders = [bare_root.parent / name for name in ("one", "three")]
    processes = [fork.Process(target=record_samples, args=(folder, together)) for folder in folders]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len({run.data.tags["model.sha256"] for run in list_runs(bare_root)[1]}) == 2


def test_half_a_database_of_a_killed_process_is_replaced(bare_root):
    (bare_root / ".mlflow.db.partial").write_bytes(b"half")
    write_results()
    mlflow_logger.record("samples")
    assert len(list_runs(bare_root)[1]) == 1
    assert not (bare_root / ".mlflow.db.partial").exists()


def test_a_parent_groups_the_runs_that_trained_its_models(root):
    models = []
    for weights in (b"one", b"two"):
        write_results(weights)
        mlflow_logger.record("training")
        models.append(files.hash_file(paths.FINETUNED / "model.safetensors"))
    files.write_text(paths.SEEDS, "{}")
    metrics = {"test_mcc_mean": {0: 0.375}, "test_mcc_pretrained": {100: 0.125, 7695: 0.5}}
    mlflow_logger.record("parent", "3 seeds", metrics, [paths.SEEDS], [*models, "c" * 64])  # the third has no run here
    client, recorded = list_runs(root)
    (parent,) = [run for run in recorded if run.info.run_name == "3 seeds"]
    assert parent.data.metrics == {"test_mcc_mean": 0.375, "test_mcc_pretrained": 0.5}
    history = client.get_metric_history(parent.info.run_id, "test_mcc_pretrained")
    assert [(point.step, point.value) for point in history] == [(100, 0.125), (7695, 0.5)]
    assert list_artifact_names(client, parent) == {"seeds.json"}
    assert parent.info.status == "FINISHED"
    children = [run for run in recorded if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.data.tags["model.sha256"] for run in children) == sorted(models)


def test_a_record_is_repeated_after_another_process_created_the_same_row(root):
    calls = []

    def log(store):
        calls.append(store.experiment_id)
        if len(calls) == 1:
            raise MlflowException('duplicate key value violates unique constraint "dataset_pk"')  # PostgreSQL's words

    assert mlflow_store.try_log(log) is None
    assert calls == ["1", "1"]


def test_a_refusal_of_files_costs_only_the_files(root, capfd):
    (root / "mlruns").write_text("a file, in which no folder can be created")
    write_results()
    mlflow_logger.record("training")
    mlflow_logger.record("evaluation")
    warnings = capfd.readouterr().err.splitlines()
    assert len(warnings) == 2
    for warning in warnings:
        assert warning.startswith("warning: not recorded in MLflow: ")
        assert warning.endswith("; fix that, and `make track` records it")
    (run,) = list_runs(root)[1]
    assert (run.info.status, run.data.metrics["loss"], run.data.metrics["test_mcc"]) == ("FINISHED", 0.6, 0.5)
    assert (run.data.params["seed"], len(run.inputs.dataset_inputs)) == ("42", 3)


def test_a_setting_that_changes_no_model_does_not_hinder_the_record(root, monkeypatch):
    write_results()
    mlflow_logger.record("training")
    settings = Path("params.yaml").read_text()
    for old, new in (("batch_size: 32  ", "batch_size: 16  "), ("google-bert/bert-base-uncased", "./a/folder")):
        assert old in settings
        settings = settings.replace(old, new)
    Path("params.yaml").write_text(settings)
    monkeypatch.setattr(workspace, "check_one_run", lambda with_code: None)
    mlflow_runs.track()
    (run,) = list_runs(root)[1]
    assert run.data.params["fetch.encoder"] == "google-bert/bert-base-uncased"
    assert not [name for name in run.data.params if name.startswith(("evaluate.", "sample_predict."))]


@pytest.mark.parametrize("call", ["create_run", "log_batch", "set_terminated", "log_artifact"])
def test_make_track_completes_a_record_and_repeated_it_changes_nothing(root, monkeypatch, capfd, call):
    def fail(*_, **__):
        raise ConnectionError("the server is gone")

    write_results()
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, fail)
        mlflow_logger.record("training")
    assert capfd.readouterr().err == (
        "warning: not recorded in MLflow: the server is gone; `make track` records it later\n"
    )
    monkeypatch.setattr(workspace, "check_one_run", lambda with_code: None)
    mlflow_runs.track()
    assert capfd.readouterr().out == "recorded in MLflow: training, evaluation and samples\n"
    client, (first,) = list_runs(root)
    mlflow_runs.track()
    (run,) = list_runs(root)[1]
    assert (run.info.status, run.info.end_time) == ("FINISHED", first.info.end_time)
    assert (run.data.metrics["test_mcc"], run.data.params["train.epochs"]) == (0.5, "4")
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 2
    assert {"learning_curve.png", "confusion_matrix.png", "samples.json"} <= list_artifact_names(client, run)
