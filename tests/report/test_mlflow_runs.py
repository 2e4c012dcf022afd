"""Records in a real MLflow on SQLite, and what happens where there is none."""

import json
import multiprocessing
import os
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from loopback import Answer, file_server
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from results import DATA_CURVE, write_results

from cola.core import files, paths
from cola.report import mlflow_runs


@pytest.fixture
def bare_root(tmp_path, monkeypatch):
    """A project that DVC runs a stage of: in a copy elsewhere, with DVC_ROOT naming the main one."""
    for name in ("project/.dvc/tmp", "copy"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return tmp_path / "project"


@pytest.fixture
def root(bare_root, empty_database):
    """Such a project in which MLflow has its tables."""
    shutil.copy(empty_database, bare_root)
    return bare_root


def runs(root):
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("bert-cola")
    return client, client.search_runs([experiment.experiment_id])


def artifact_names(client, run):
    return {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


def test_a_training_is_one_run_at_the_main_projects_root(root, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "demo")
    write_results(b"abc")
    mlflow_runs.record(mlflow_runs.training)
    client, (run,) = runs(root)
    assert run.info.run_name == "demo"
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 4000  # ms: TIMINGS
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
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, model.source_run_id, str(model.status)) == ("model", run.info.run_id, "READY")
    datasets = [(found.dataset.name, found.dataset.digest, found.tags[0].value) for found in run.inputs.dataset_inputs]
    assert sorted(datasets) == [("cola", "1" * 36, "train"), ("cola", "2" * 36, "validation")]
    assert run.data.tags["mlflow.note.content"] == "### Training\ntiny/bert on cola\n"
    assert (root / "mlruns").is_dir()
    assert not Path("mlruns").exists(), "the copy has got files of MLflow's"


def test_results_find_the_newest_run_of_their_model(root):
    write_results(b"one")
    mlflow_runs.record(mlflow_runs.training)
    mlflow_runs.record(mlflow_runs.training)
    write_results(b"two")
    mlflow_runs.record(mlflow_runs.training)
    write_results(b"one")
    mlflow_runs.record(mlflow_runs.evaluation)
    mlflow_runs.record(mlflow_runs.samples)
    client, recorded = runs(root)
    by_start = sorted(recorded, key=lambda run: run.info.start_time)
    assert ["test_mcc" in run.data.metrics for run in by_start] == [False, True, False]
    assert ["samples.json" in artifact_names(client, run) for run in by_start] == [False, True, False]
    drawn = {"mcc_per_batch.png", "confusion_matrix.png", "calibration.png", "per_source.png"}
    tables = {"test.json", "analysis.json", "predictions.csv", "per_source.csv", "calibration.csv"}
    assert drawn | tables <= artifact_names(client, by_start[1])


def test_results_of_a_model_without_a_run_make_one(root):
    write_results(mcc=0.25)
    mlflow_runs.record(mlflow_runs.evaluation)
    write_results(mcc=0.5)
    mlflow_runs.record(mlflow_runs.evaluation)
    _, (run,) = runs(root)
    assert run.data.metrics == {
        "test_mcc": 0.5,
        "test_mcc_low": 0.1234,
        "test_mcc_high": 0.7,
        "test_sentences": 2,
        "test_calibration_error": 0.125,
        "test_bag_of_words_mcc": 0.1,
    }
    assert run.data.tags["encoder"] == "tiny/bert"
    assert run.info.status == "FINISHED"


def test_a_run_is_described_in_words_and_its_samples_are_a_table_once_each(root):
    write_results(mcc=0.25)
    mlflow_runs.record(mlflow_runs.training)
    client, (run,) = runs(root)
    client.set_tag(run.info.run_id, "mlflow.note.content", f"My words.\n\n{run.data.tags['mlflow.note.content']}")
    mlflow_runs.record(mlflow_runs.samples)
    for mcc in (0.25, 0.5):
        write_results(mcc=mcc)
        mlflow_runs.record(mlflow_runs.evaluation)
    _, (run,) = runs(root)
    assert run.data.tags["mlflow.note.content"] == (
        "My words.\n\n### Training\ntiny/bert on cola\n\n"
        "### Samples\n| sentence | label |\n| --- | --- |\n"
        "| &#60;script&#62;alert&#40;1&#41;&#60;&#47;script&#62; | acceptable |\n| He left. | unacceptable |\n\n"
        "### Test\nMCC **0.500**, 95% interval 0.123 to 0.700, 2 sentences\n"
    )
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "samples_table.json", "type": "table"}]
    assert "samples_table.json" in artifact_names(client, run)
    assert {found.tags[0].value for found in run.inputs.dataset_inputs} == {"train", "validation", "test"}
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert {metric.key: metric.value for metric in model.metrics}["test_mcc"] == 0.5


def test_many_steps_are_all_recorded(root):
    count = 1_234
    write_results(steps=pd.DataFrame({"step": range(1, count + 1), "loss": 0.5}))
    mlflow_runs.record(mlflow_runs.training)
    client, (run,) = runs(root)
    assert len(client.get_metric_history(run.info.run_id, "loss")) == count


def record_samples(folder, together):
    """What another process does, at the same moment as the others that wait for `together`."""
    folder.mkdir()
    os.chdir(folder)
    write_results(folder.name.encode())
    together.wait()
    mlflow_runs.record(mlflow_runs.samples)


def test_two_first_uses_at_once_share_one_database(bare_root):
    processes = multiprocessing.get_context("fork")  # with MLflow imported, which takes seconds
    together = processes.Barrier(2)
    both = [
        processes.Process(target=record_samples, args=(bare_root.parent / name, together)) for name in ("one", "two")
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    _, recorded = runs(bare_root)
    assert len({run.data.tags["model.sha256"] for run in recorded}) == 2


def test_a_database_that_a_killed_process_has_half_made_is_made_anew(bare_root):
    (bare_root / ".mlflow.db.partial").write_bytes(b"half")
    write_results()
    mlflow_runs.record(mlflow_runs.samples)
    assert len(runs(bare_root)[1]) == 1
    assert not (bare_root / ".mlflow.db.partial").exists()


def test_seeds_are_a_parent_of_the_runs_that_trained_their_models(root):
    summary = {"mcc": {"1": 0.25, "2": 0.5, "3": 0.5}, "mean": 0.375, "standard_deviation": 0.125}
    models = []
    for weights in (b"one", b"two"):
        write_results(weights)
        mlflow_runs.record(mlflow_runs.training)
        models.append(files.sha256(paths.FINETUNED / "model.safetensors"))
    files.write_json(paths.SEEDS, summary)
    files.write_text(paths.SEEDS_PICTURE, "drawn")
    mlflow_runs.record(partial(mlflow_runs.seeds, summary, [*models, "c" * 64]))  # the third came from a cache
    client, recorded = runs(root)
    (parent,) = [run for run in recorded if run.info.run_name == "3 seeds"]
    assert parent.data.metrics == {"test_mcc_mean": 0.375, "test_mcc_standard_deviation": 0.125}
    assert artifact_names(client, parent) == {"seeds.json", "seeds.png"}
    assert parent.info.status == "FINISHED"
    children = [run for run in recorded if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.data.tags["model.sha256"] for run in children) == sorted(models)


def test_a_data_curve_is_a_curve_of_its_parent_run(root):
    write_results()
    mlflow_runs.record(mlflow_runs.training)
    files.write_json(paths.DATA_CURVE, DATA_CURVE)
    pictures = paths.DATA_CURVE_PICTURE, paths.DATA_CURVE_EPOCHS, paths.DATA_CURVE_SOURCES
    for path in pictures:
        files.write_text(path, "drawn")
    model = files.sha256(paths.FINETUNED / "model.safetensors")
    mlflow_runs.record(partial(mlflow_runs.data_curve, DATA_CURVE, [model]))
    client, recorded = runs(root)
    (parent,) = [run for run in recorded if run.info.run_name == "data curve"]
    history = client.get_metric_history(parent.info.run_id, "test_mcc_pretrained")
    assert [(point.step, point.value) for point in history] == [(100, 0.125), (7695, 0.5)]
    assert parent.data.metrics.keys() == {"test_mcc_pretrained", "test_mcc_random_weights", "test_mcc_bag_of_words"}
    assert artifact_names(client, parent) == {"data_curve.json", *(path.name for path in pictures)}
    (child,) = [run for run in recorded if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert child.data.tags["model.sha256"] == model


def test_an_experiment_that_another_machine_creates_at_that_moment_is_taken(root, monkeypatch, capfd):
    write_results()
    mlflow_runs.record(mlflow_runs.training)  # the other's
    get_experiment, asked = MlflowClient.get_experiment_by_name, []

    def known_at_the_second_time(client, name):
        asked.append(name)
        return get_experiment(client, name) if len(asked) > 1 else None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", known_at_the_second_time)
    mlflow_runs.record(mlflow_runs.training)
    monkeypatch.undo()
    assert capfd.readouterr().err == ""
    assert len(asked) == 2
    assert len(runs(root)[1]) == 2


def test_datasets_that_another_run_records_at_that_moment_are_taken(root, monkeypatch, capfd):
    write_results()
    mlflow_runs.record(mlflow_runs.training)  # the other's
    log_inputs, asked = MlflowClient.log_inputs, []

    def recorded_at_the_second_time(client, run_id, datasets):
        asked.append(run_id)
        if len(asked) == 1:  # as PostgreSQL says it
            raise MlflowException('duplicate key value violates unique constraint "dataset_pk"')
        log_inputs(client, run_id, datasets)

    monkeypatch.setattr(MlflowClient, "log_inputs", recorded_at_the_second_time)
    mlflow_runs.record(mlflow_runs.training)
    assert capfd.readouterr().err == ""
    assert len(asked) == 2
    assert [len(run.inputs.dataset_inputs) for run in runs(root)[1]] == [2, 2]


@pytest.mark.parametrize("server", ["closed", "broken", pytest.param("hanging", marks=pytest.mark.slow)])
def test_a_server_that_cannot_record_costs_seconds_and_a_warning(bare_root, monkeypatch, capfd, server):
    answer = Answer(seconds=30) if server == "hanging" else Answer(status=500)
    write_results()
    with file_server({}, script=[answer] * 50) as bad:
        place = "127.0.0.1:9" if server == "closed" else bad.url.removeprefix("http://")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:a-secret@{place}")
        started = time.monotonic()
        mlflow_runs.record(mlflow_runs.training)
        seconds = time.monotonic() - started
    warning = capfd.readouterr().err.strip().splitlines()
    assert len(warning) == 1
    assert warning[0].startswith("warning: not recorded in MLflow: ")
    assert warning[0].endswith("; `make track` records it later")
    assert "a-secret" not in warning[0]
    assert seconds < 7
    assert not (bare_root / "mlflow.db").exists()


@pytest.fixture
def tracked(root, monkeypatch, capfd):
    """`python -m cola.report.mlflow_runs` where the results are those of params.yaml; what it prints."""

    def up_to_date(*_, **__):
        return subprocess.CompletedProcess([], 0, stdout="{}")

    def main():
        with monkeypatch.context() as patch:
            patch.setattr(mlflow_runs.subprocess, "run", up_to_date)
            mlflow_runs.main()
        return capfd.readouterr().out.splitlines()

    return main


def test_what_was_missed_is_recorded_later_and_only_once(root, tracked):
    write_results()
    assert tracked() == [f"recorded in MLflow: the {stage}" for stage in ("training", "evaluation", "samples")]
    assert tracked() == []
    client, (run,) = runs(root)
    assert (run.info.status, run.data.metrics["loss"], run.data.metrics["test_mcc"]) == ("FINISHED", 0.6, 0.5)
    assert {"learning_curve.png", "confusion_matrix.png", "samples.json"} <= artifact_names(client, run)


@pytest.mark.parametrize("call", ["log_batch", "set_terminated", "log_artifact", "log_figure"])
def test_a_record_that_was_cut_is_made_whole_later(root, monkeypatch, tracked, capfd, call):
    write_results()

    def gone(*_, **__):
        raise ConnectionError("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, gone)
        mlflow_runs.record(mlflow_runs.training)
    assert "the server is gone" in capfd.readouterr().err
    assert len(tracked()) == 3
    client, (run,) = runs(root)
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 2
    assert {"learning_curve.png", "confusion_matrix.png", "samples.json"} <= artifact_names(client, run)
