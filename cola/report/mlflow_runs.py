"""Records of trainings in MLflow: a mirror of the files, from which no number is ever read back.

`python -m cola.report.mlflow_runs track` (make track) records the workspace's result; `ui 5000` (make ui) shows the
runs on that port.
"""

from cola.core import processes

if __name__ == "__main__":  # before the imports that take seconds
    processes.report_import_errors()

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from cola.core import errors, files, params, paths
from cola.core.errors import UserError
from cola.report import figures, mlflow_store, revision, workspace
from cola.report.mlflow_store import Store, try_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BATCH = 500  # metrics in one call; the server takes up to 1,000


class TrainingRun:
    """The MLflow run of a training. It is RUNNING from the first `update`."""

    def __init__(
        self, settings: Mapping[str, Any], source: Mapping[str, Any], machine: Mapping[str, str], resumed: bool
    ) -> None:
        """`settings`: params.yaml, flattened; `source`: the model's source.json; `machine`: device and precision.

        A training that is `resumed` continues its earlier run, unless that is FINISHED.
        """
        # The settings of later stages may change after the training, and MLflow does not let a run's settings change.
        later = ("evaluate.", "sample_predict.")
        self.settings = {name: value for name, value in settings.items() if not name.startswith(later)}
        self.source, self.machine, self.resumed = source, machine, resumed
        # Host and path distinguish the users of one server.
        parts = json.dumps([self.settings, source, machine, platform.node(), str(paths.find_root())], sort_keys=True)
        self.digest = hashlib.sha256(parts.encode()).hexdigest()
        self.run_id = ""  # until the first `update`
        self.logged: dict[str, set[int]] = {}  # {metric: steps that the run already has}
        self.points: list[Metric] = []  # not yet logged

    def add(self, index: str, row: Mapping[str, float], milliseconds: int) -> None:
        """Take a row of steps.csv ("step") or history.csv ("epoch"), measured at this time since 1970."""
        step = int(row[index])
        self.points += [Metric(name, float(value), milliseconds, step) for name, value in row.items() if name != index]

    def update(self, store: Store) -> None:
        """Log the points that are not yet logged. The first call creates the run, or continues a resumed one."""
        if not self.run_id and self.resumed:
            run_id = _find_run(store, "training.digest", self.digest, " and attributes.status != 'FINISHED'")
            if run_id:
                store.client.update_run(run_id, "RUNNING")
                self.logged, self.run_id = _read_logged_steps(store, run_id), run_id
        if not self.run_id:
            tags = {**_make_tags(self.source), **self.machine, "training.digest": self.digest}
            run = store.client.create_run(store.experiment_id, tags=tags, run_name=os.environ.get("DVC_EXP_NAME"))
            self.run_id = str(run.info.run_id)
            if "MLFLOW_RUN_ID" in os.environ:
                print("warning: MLFLOW_RUN_ID is not used: a training makes a new run in MLflow", file=sys.stderr)
            self.log_settings(store)
        self.points = [point for point in self.points if point.step not in self.logged.get(point.key, ())]
        while self.points:
            store.client.log_batch(self.run_id, metrics=self.points[:_BATCH])
            del self.points[:_BATCH]

    def log_settings(self, store: Store) -> None:
        """Log the settings that the run lacks. Two paths of one folder are two settings of the same training."""
        present = store.client.get_run(self.run_id).data.params
        settings = [Param(name, str(value)) for name, value in self.settings.items() if name not in present]
        store.client.log_batch(self.run_id, params=settings)

    def log_datasets(self, store: Store) -> None:
        """Log the sha256 of each table in data/tokenized. A second call changes nothing."""
        datasets = []
        for line in (paths.TOKENIZED / files.CHECKSUMS).read_text(encoding="utf-8").splitlines():
            digest, _, name = line.partition("  ")
            path = json.dumps({"uri": (paths.TOKENIZED / name).as_posix()})
            dataset = Dataset(self.source["corpus"]["name"], digest[:36], "local", path)  # MLflow stores 36 digits
            datasets.append(DatasetInput(dataset, [InputTag("mlflow.data.context", Path(name).stem)]))
        store.client.log_inputs(self.run_id, datasets)


def log_training(store: Store, run: TrainingRun | None = None) -> str:
    """Log the outputs of the stage train, and end the run. Returns its id.

    A live training, `run`, never shares its run: another training may make the same model meanwhile. Without `run`, as
    in `make track`, the record goes to the newest run that trained this model.
    """
    history, timings, model = files.read_csv(paths.HISTORY), files.read_json(paths.TIMINGS), _hash_model()
    machine = {name: timings.pop(name) for name in ("device", "precision")}
    if run is None:
        source = files.read_json(paths.FINETUNED / "source.json")
        run = TrainingRun(params.flatten(params.load(paths.PARAMS)), source, machine, resumed=True)
        run.run_id = _find_run(store, "model.sha256", model)
    run.logged = _read_logged_steps(store, run.run_id) if run.run_id else {}
    now = int(time.time() * 1000)
    run.points = [Metric(name, value, now, 0) for name, value in timings.items()]
    for index, table in (("step", files.read_csv(paths.STEPS)), ("epoch", history)):
        for row in table.to_dict("records"):
            run.add(index, row, now)
    run.update(store)
    for name, value in {**machine, "model.sha256": model}.items():
        store.client.set_tag(run.run_id, name, value)
    run.log_settings(store)
    if store.client.get_run(run.run_id).info.status != "FINISHED":
        store.client.set_terminated(run.run_id)
    run.log_datasets(store)
    # Files come last: if MLflow cannot store them, it has everything else.
    written = [paths.CORPUS_METRICS, paths.TRAIN_METRICS, paths.HISTORY, paths.STEPS, paths.TIMINGS]
    _log_files(store, run.run_id, written, {"learning_curve.png": figures.draw_learning_curve(history)})
    return run.run_id


def log_end(store: Store, run: TrainingRun, status: str) -> None:
    """Log the last rows of a training that did not end well, and its status: FAILED or KILLED."""
    run.update(store)
    store.client.set_terminated(run.run_id, status)


def log_evaluation(store: Store) -> None:
    """Log the outputs of the stage evaluate to the model's run."""
    run_id, now = _find_model_run(store), int(time.time() * 1000)
    scores = files.read_json(paths.TEST_METRICS) | files.read_json(paths.ANALYSIS)
    store.client.log_batch(run_id, [Metric(f"test_{name}", value, now, 0) for name, value in scores.items()])
    predictions = files.read_csv(paths.PREDICTIONS)
    pictures = {
        "mcc_per_batch.png": figures.draw_mcc_per_batch(files.read_csv(paths.MCC_PER_BATCH)),
        "calibration.png": figures.draw_calibration(files.read_csv(paths.CALIBRATION)),
        "per_source.png": figures.draw_mcc_per_source(files.read_csv(paths.PER_SOURCE)),
        "confusion_matrix.png": figures.draw_confusion_matrix(predictions),
    }
    tables = [paths.MCC_PER_BATCH, paths.PREDICTIONS, paths.PER_SOURCE, paths.CALIBRATION]
    _log_files(store, run_id, [paths.TEST_METRICS, paths.ANALYSIS, *tables], pictures)


def log_samples(store: Store) -> None:
    """Log the output of the stage sample_predict to the model's run."""
    _log_files(store, _find_model_run(store), [paths.SAMPLES])


def log_parent(
    store: Store, name: str, metrics: Mapping[str, Mapping[int, float]], written: Iterable[Path], models: Iterable[str]
) -> None:
    """Log metrics {name: {step: value}} and files to a parent of the runs that trained these models (their sha256)."""
    parent, now = store.client.create_run(store.experiment_id, run_name=name).info.run_id, int(time.time() * 1000)
    points = [Metric(key, value, now, step) for key, values in metrics.items() for step, value in values.items()]
    store.client.log_batch(parent, metrics=points)
    for digest in models:
        if child := _find_run(store, "model.sha256", digest):  # a model from a shared DVC cache has no run here
            store.client.set_tag(child, "mlflow.parentRunId", parent)
    store.client.set_terminated(parent)
    _log_files(store, parent, written)


def track() -> None:
    """Record the workspace's result, as far as MLflow lacks it. Raises UserError if it is not that of params.yaml."""
    workspace.check_one_run(with_code=True)
    if failures := [failure for log in (log_training, log_evaluation, log_samples) if (failure := try_log(log))]:
        raise UserError(f"not recorded in MLflow: {'; '.join(dict.fromkeys(failures))}")
    print("recorded in MLflow: training, evaluation and samples")


def _find_run(store: Store, tag: str, value: str, condition: str = "") -> str:
    """Return the id of the newest run with this value of a tag, or an empty string."""
    runs = store.client.search_runs([store.experiment_id], f"tags.`{tag}` = '{value}'{condition}", max_results=1)
    return str(runs[0].info.run_id) if runs else ""


def _find_model_run(store: Store) -> str:
    """Return the id of the newest run that trained the model. In a fresh clone, this records its training first."""
    return _find_run(store, "model.sha256", _hash_model()) or log_training(store)


def _read_logged_steps(store: Store, run_id: str) -> dict[str, set[int]]:
    """Return {metric: its steps in the run}."""
    names = store.client.get_run(run_id).data.metrics
    return {name: {point.step for point in store.client.get_metric_history(run_id, name)} for name in names}


def _hash_model() -> str:
    return files.hash_file(paths.FINETUNED / "model.safetensors")


def _make_tags(source: Mapping[str, Any]) -> dict[str, str]:
    """Return a training's tags: corpus, encoder, git commit and DVC experiment."""
    tags = {name: os.environ[name] for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV") if name in os.environ}
    with suppress(UserError):
        tags["git.commit"] = revision.read_commit()
    return tags | {
        "corpus": source["corpus"]["name"],
        "encoder": source["encoder"]["name"],
        "encoder.revision": str(source["encoder"]["revision"]),
        "encoder.sha256": source["encoder"]["files"]["model.safetensors"],
    }


def _log_files(
    store: Store, run_id: str, written: Iterable[Path], pictures: "Mapping[str, Figure] | None" = None
) -> None:
    """Log files, and figures as files of these names."""
    for path in written:
        store.client.log_artifact(run_id, str(path))
    with figures.without_warnings():
        for name, figure in (pictures or {}).items():
            store.client.log_figure(run_id, figure, name)


def main() -> None:
    match sys.argv[1:]:
        case ["ui", port]:
            mlflow_store.show_runs(port)
        case ["track"]:
            track()
        case _:
            raise UserError("what shall MLflow do? make ui, or make track")


if __name__ == "__main__":
    errors.run(main)
