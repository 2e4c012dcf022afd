"""Records in a real MLflow on SQLite, and what happens where there is none."""

import multiprocessing
import os
from pathlib import Path

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from results import SOURCE, write_results

from cola.core import files, paths
from cola.report import mlflow_logger, mlflow_runs, mlflow_store, workspace


def artifact_names(client, run):
    return {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


def test_a_training_is_one_run_at_the_main_projects_root(root, runs, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "demo")
    write_results(b"abc")
    mlflow_logger.record("training")
    client, (run,) = runs(root)
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
    assert artifact_names(client, run) == {
        "corpus.json", "train.json", "history.csv", "steps.csv", "timings.json", "learning_curve.png"
    }  # fmt: skip
    datasets = [(read.dataset.digest, read.tags[0].value) for read in run.inputs.dataset_inputs]
    assert sorted(datasets) == [("1" * 36, "train"), ("2" * 36, "validation"), ("3" * 36, "test")]
    assert {read.dataset.name for read in run.inputs.dataset_inputs} == {"cola"}
    assert (root / "mlruns").is_dir()
    assert not Path("mlruns").exists(), "the copy has got files of MLflow's"


def train():
    """Record a training that ended before MLflow was imported, so that its run has to be created at the end."""
    run = mlflow_runs.TrainingRun({"seed": 42}, SOURCE, {"device": "cpu", "precision": "float32"}, resumed=False)
    assert mlflow_store.try_log(lambda store: mlflow_runs.log_training(store, run)) is None


def test_each_training_makes_a_run_though_another_trained_the_same_model(root, runs, monkeypatch):
    write_results()
    for name in ("copy1", "copy2"):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        train()
    assert sorted(run.info.run_name for run in runs(root)[1]) == ["copy1", "copy2"]


def test_scores_and_samples_go_to_the_newest_run_of_their_model(root, runs):
    for weights in (b"one", b"one", b"two"):
        write_results(weights)
        train()
    write_results(b"one")
    mlflow_logger.record("evaluation")
    mlflow_logger.record("samples")
    client, recorded = runs(root)
    by_start = sorted(recorded, key=lambda run: run.info.start_time)
    assert ["test_mcc" in run.data.metrics for run in by_start] == [False, True, False]
    assert ["samples.json" in artifact_names(client, run) for run in by_start] == [False, True, False]
    pictures = {"mcc_per_batch.png", "confusion_matrix.png", "calibration.png", "per_source.png"}
    tables = {"test.json", "analysis.json", "predictions.csv", "per_source.csv", "calibration.csv"}
    assert pictures | tables <= artifact_names(client, by_start[1])


def test_scores_of_a_model_without_a_run_come_with_its_training(root, runs):
    for mcc in (0.25, 0.5):
        write_results(mcc=mcc)
        mlflow_logger.record("evaluation")
    client, (run,) = runs(root)
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
    assert {"learning_curve.png", "confusion_matrix.png"} <= artifact_names(client, run)


def test_many_steps_are_all_recorded(root, runs):
    count = 1_234
    write_results(steps=pd.DataFrame({"step": range(1, count + 1), "loss": 0.5}))
    mlflow_logger.record("training")
    client, (run,) = runs(root)
    assert len(client.get_metric_history(run.info.run_id, "loss")) == count


def record_samples(folder, together):
    """What another process does, at the same moment as the others that wait for `together`."""
    folder.mkdir()
    os.chdir(folder)
    write_results(folder.name.encode())
    settings = paths.PARAMS.read_text()
    paths.PARAMS.write_text(settings.replace("seed: 42", f"seed: {len(folder.name)}"))
    together.wait()
    mlflow_logger.record("samples")


@pytest.mark.slow
def test_two_first_uses_at_once_share_one_database(bare_root, runs):
    processes = multiprocessing.get_context("fork")  # with MLflow imported, which takes seconds
    together = processes.Barrier(2)
    both = [
        processes.Process(target=record_samples, args=(bare_root.parent / name, together)) for name in ("one", "three")
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    _, recorded = runs(bare_root)
    assert len({run.data.tags["model.sha256"] for run in recorded}) == 2


def test_a_database_that_a_killed_process_has_half_made_is_made_anew(bare_root, runs):
    (bare_root / ".mlflow.db.partial").write_bytes(b"half")
    write_results()
    mlflow_logger.record("samples")
    assert len(runs(bare_root)[1]) == 1
    assert not (bare_root / ".mlflow.db.partial").exists()


def test_several_runs_get_a_parent(root, runs):
    models = []
    for weights in (b"one", b"two"):
        write_results(weights)
        mlflow_logger.record("training")
        models.append(files.sha256(paths.FINETUNED / "model.safetensors"))
    files.write_text(paths.SEEDS, "{}")
    metrics = {"test_mcc_mean": {0: 0.375}, "test_mcc_pretrained": {100: 0.125, 7695: 0.5}}
    mlflow_logger.record("parent", "3 seeds", metrics, [paths.SEEDS], [*models, "c" * 64])  # the third is another's
    client, recorded = runs(root)
    (parent,) = [run for run in recorded if run.info.run_name == "3 seeds"]
    assert parent.data.metrics == {"test_mcc_mean": 0.375, "test_mcc_pretrained": 0.5}
    history = client.get_metric_history(parent.info.run_id, "test_mcc_pretrained")
    assert [(point.step, point.value) for point in history] == [(100, 0.125), (7695, 0.5)]
    assert artifact_names(client, parent) == {"seeds.json"}
    assert parent.info.status == "FINISHED"
    children = [run for run in recorded if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.data.tags["model.sha256"] for run in children) == sorted(models)


def test_datasets_that_another_run_records_at_that_moment_are_taken(root, runs, monkeypatch, capfd):
    write_results(b"another's")
    mlflow_logger.record("training")
    write_results()
    log_inputs, asked = MlflowClient.log_inputs, []

    def recorded_at_the_second_time(client, run_id, datasets):
        asked.append(run_id)
        if len(asked) == 1:  # as PostgreSQL says it
            raise MlflowException('duplicate key value violates unique constraint "dataset_pk"')
        log_inputs(client, run_id, datasets)

    monkeypatch.setattr(MlflowClient, "log_inputs", recorded_at_the_second_time)
    mlflow_logger.record("training")
    assert capfd.readouterr().err == ""
    assert len(asked) == 2
    assert [(run.info.status, len(run.inputs.dataset_inputs)) for run in runs(root)[1]] == [("FINISHED", 3)] * 2


@pytest.fixture
def track(monkeypatch):
    """`make track` where the results are those of params.yaml."""
    monkeypatch.setattr(workspace, "check_one_run", lambda with_code: None)
    return mlflow_runs.track


def test_a_result_is_recorded_later_and_once_more_it_changes_nothing(root, runs, track, capfd):
    write_results()
    track()
    assert capfd.readouterr().out == "recorded in MLflow: training, evaluation and samples\n"
    client, (first,) = runs(root)
    track()
    _, (run,) = runs(root)
    assert (run.info.status, run.data.metrics["loss"], run.data.metrics["test_mcc"]) == ("FINISHED", 0.6, 0.5)
    assert run.info.end_time == first.info.end_time
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 2
    assert {"learning_curve.png", "confusion_matrix.png", "samples.json"} <= artifact_names(client, run)


@pytest.mark.parametrize("call", ["log_batch", "set_terminated", "log_artifact", "log_artifacts"])
def test_a_record_that_was_cut_is_made_whole_later(root, runs, monkeypatch, track, capfd, call):
    write_results()

    def gone(*_, **__):
        raise ConnectionError("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, gone)
        mlflow_logger.record("training")
    assert "the server is gone" in capfd.readouterr().err
    track()
    client, (run,) = runs(root)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "4"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 2
    assert {"learning_curve.png", "confusion_matrix.png", "samples.json"} <= artifact_names(client, run)
