"""Records of trainings in MLflow: a mirror of the files, from which no number is ever read back.

`python -m cola.report.mlflow_runs track` (make track) records the workspace's result; with `ui 5000` (make ui) it shows
the runs on that port.
"""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException

from cola.core import files, params, paths
from cola.core.errors import UserError, run
from cola.report import figures, mlflow_store, revision, workspace
from cola.report.mlflow_store import Store, describe, try_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BATCH = 500  # metrics in one call; the server takes up to 1,000


class TrainingRun:
    """The run of a training: RUNNING from the first `update`."""

    def __init__(
        self, settings: Mapping[str, Any], source: Mapping[str, Any], machine: Mapping[str, str], resumed: bool
    ) -> None:
        """`settings`: params.yaml, flattened; `source`: the model's source.json; `machine`: device and precision.

        A training that is `resumed` continues its earlier run, if that has not ended well.
        """
        self.settings, self.source, self.machine, self.resumed = settings, source, machine, resumed
        # Host and path tell the users of one server apart.
        parts = json.dumps([settings, source, machine, platform.node(), str(mlflow_store.root())], sort_keys=True)
        self.digest = hashlib.sha256(parts.encode()).hexdigest()
        self.run_id = ""  # until the first `update`
        self.logged: dict[str, set[int]] = {}  # steps of each metric that are not to be logged again
        self.points: list[Metric] = []  # not yet logged

    def add(self, index: str, row: Mapping[str, float], time: int) -> None:
        """Take a row of steps.csv ("step") or history.csv ("epoch"), of this time in milliseconds since 1970."""
        step = int(row[index])
        self.points += [Metric(name, float(value), time, step) for name, value in row.items() if name != index]

    def update(self, store: Store) -> None:
        """Log the points that are not yet logged, to a run that is created if there is none."""
        if not self.run_id and self.resumed:
            run_id = _find_run(store, "training.digest", self.digest, " and attributes.status != 'FINISHED'")
            if run_id:
                store.client.update_run(run_id, "RUNNING")
                self.logged, self.run_id = _logged_steps(store, run_id), run_id
        if not self.run_id:
            tags = {**_tags(self.source), **self.machine, "training.digest": self.digest}
            run = store.client.create_run(store.experiment_id, tags=tags, run_name=os.environ.get("DVC_EXP_NAME"))
            self.run_id = str(run.info.run_id)
            if "MLFLOW_RUN_ID" in os.environ:
                print("warning: MLFLOW_RUN_ID is not used: a training makes its own run in MLflow", file=sys.stderr)
            with suppress(MlflowException):  # log_training does it again, and tells of its error
                self.log_settings(store)
                self.log_datasets(store)
        self.points = [point for point in self.points if point.step not in self.logged.get(point.key, ())]
        while self.points:
            store.client.log_batch(self.run_id, metrics=self.points[:_BATCH])
            del self.points[:_BATCH]

    def log_settings(self, store: Store) -> None:
        """Log params.yaml. Again, it changes nothing."""
        settings = [Param(name, str(value)) for name, value in self.settings.items()]
        store.client.log_batch(self.run_id, params=settings)

    def log_datasets(self, store: Store) -> None:
        """Log the tables of data/tokenized by their sha256. Again, it changes nothing."""
        datasets = []
        for line in (paths.TOKENIZED / files.CHECKSUMS).read_text(encoding="utf-8").splitlines():
            digest, _, name = line.partition("  ")
            path = json.dumps({"uri": (paths.TOKENIZED / name).as_posix()})
            dataset = Dataset(self.source["corpus"]["name"], digest[:36], "local", path)  # it takes no more digits
            datasets.append(DatasetInput(dataset, [InputTag("mlflow.data.context", Path(name).stem)]))
        store.client.log_inputs(self.run_id, datasets)


def log_training(store: Store, run: TrainingRun | None = None) -> str:
    """Log what the stage train wrote, and end the run, whose id is returned.

    A live training makes its run: others may train the same model at the same time. Only without `run`, as after
    `make track`, does the newest run that trained this model receive the record.
    """
    history, timings = files.read_csv(paths.HISTORY), files.read_json(paths.TIMINGS)
    machine = {name: timings.pop(name) for name in ("device", "precision")}
    model = _model_digest()
    if run is None:
        source = files.read_json(paths.FINETUNED / "source.json")
        run = TrainingRun(params.flatten(params.load(paths.PARAMS)), source, machine, resumed=True)
        run.run_id = _find_run(store, "model.sha256", model)
    run.logged = _logged_steps(store, run.run_id) if run.run_id else {}
    now = int(time.time() * 1000)
    run.points = [Metric(name, value, now, 0) for name, value in timings.items()]
    for index, table in (("step", files.read_csv(paths.STEPS)), ("epoch", history)):
        for row in table.to_dict("records"):
            run.add(index, row, now)
    run.update(store)
    for name, value in {**machine, "model.sha256": model}.items():
        store.client.set_tag(run.run_id, name, value)
    written = [paths.CORPUS_METRICS, paths.TRAIN_METRICS, paths.HISTORY, paths.STEPS, paths.TIMINGS]
    _log_parts(
        settings=lambda: run.log_settings(store),
        datasets=lambda: run.log_datasets(store),
        files=lambda: _log_files(store, run.run_id, written),
        pictures=lambda: _log_pictures(store, run.run_id, {"learning_curve.png": figures.learning_curve(history)}),
        end=lambda: _end(store, run.run_id),
    )
    return run.run_id


def log_end(store: Store, run: TrainingRun, status: str) -> None:
    """Log the last rows of a training that did not end well, and its status: FAILED or KILLED."""
    run.update(store)
    store.client.set_terminated(run.run_id, status)


def log_evaluation(store: Store) -> None:
    """Log what the stage evaluate wrote to the run of the model."""
    run_id, now = _run_of_the_model(store), int(time.time() * 1000)
    scores = files.read_json(paths.TEST_METRICS) | files.read_json(paths.ANALYSIS)
    store.client.log_batch(run_id, [Metric(f"test_{name}", value, now, 0) for name, value in scores.items()])
    tables = [paths.MCC_PER_BATCH, paths.PREDICTIONS, paths.PER_SOURCE, paths.CALIBRATION]
    _log_parts(
        files=lambda: _log_files(store, run_id, [paths.TEST_METRICS, paths.ANALYSIS, *tables]),
        pictures=lambda: _log_pictures(store, run_id, _draw_evaluation()),
    )


def _draw_evaluation() -> "dict[str, Figure]":
    predictions = files.read_csv(paths.PREDICTIONS)
    sources = figures.largest_sources(files.read_csv(paths.PER_SOURCE), predictions)
    return {
        "mcc_per_batch.png": figures.mcc_per_batch(files.read_csv(paths.MCC_PER_BATCH)),
        "calibration.png": figures.calibration(files.read_csv(paths.CALIBRATION)),
        "per_source.png": figures.mcc_per_source(sources),
        "confusion_matrix.png": figures.confusion_matrix(predictions),
    }


def log_samples(store: Store) -> None:
    """Log what the stage sample_predict wrote to the run of the model."""
    _log_files(store, _run_of_the_model(store), [paths.SAMPLES])


def log_parent(
    store: Store, name: str, metrics: Mapping[str, Mapping[int, float]], written: Iterable[Path], models: Iterable[str]
) -> None:
    """Log metrics {name: {step: value}} and files to a parent of the runs that trained these models (their sha256)."""
    parent, now = store.client.create_run(store.experiment_id, run_name=name).info.run_id, int(time.time() * 1000)
    points = [Metric(key, value, now, step) for key, values in metrics.items() for step, value in values.items()]
    store.client.log_batch(parent, metrics=points)
    for digest in models:
        if child := _find_run(store, "model.sha256", digest):  # a model that came from another's cache has no run here
            store.client.set_tag(child, "mlflow.parentRunId", parent)
    _log_parts(files=lambda: _log_files(store, parent, written), end=lambda: store.client.set_terminated(parent))


def track() -> None:
    """Record the workspace's result, whatever MLflow has of it. Raises UserError if it is not that of params.yaml."""
    workspace.check_one_run(with_code=True)
    if faults := [fault for log in (log_training, log_evaluation, log_samples) if (fault := try_log(log))]:
        raise UserError(f"not recorded in MLflow: {'; '.join(dict.fromkeys(faults))}")
    print("recorded in MLflow: training, evaluation and samples")


def _log_parts(**parts: Callable[[], Any]) -> None:
    """Log parts of a record by name: an error in one keeps back no other, unless MLflow has gone away.

    Raises UserError with the names of the parts that are missing, and the reasons.
    """
    missing: dict[str, list[str]] = {}  # by reason
    for name, log in parts.items():
        try:
            log()
        except Exception as error:
            if mlflow_store.is_of_connection(error):
                raise
            missing.setdefault(describe(error), []).append(name)
    if missing:
        raise UserError("; ".join(f"{', '.join(names)} ({reason})" for reason, names in missing.items()))


def _find_run(store: Store, tag: str, value: str, condition: str = "") -> str:
    """The id of the newest run with this value of a tag; empty if there is none."""
    runs = store.client.search_runs([store.experiment_id], f"tags.`{tag}` = '{value}'{condition}", max_results=1)
    return str(runs[0].info.run_id) if runs else ""


def _run_of_the_model(store: Store) -> str:
    """The id of the newest run that trained the model here, which is recorded if there is none, as in a fresh clone."""
    model = _model_digest()
    if not _find_run(store, "model.sha256", model):
        with suppress(UserError):  # the rest of the record does not wait for a part of the training's
            log_training(store)
    return _find_run(store, "model.sha256", model)


def _logged_steps(store: Store, run_id: str) -> dict[str, set[int]]:
    """{metric: its steps in the run}."""
    names = store.client.get_run(run_id).data.metrics
    return {name: {point.step for point in store.client.get_metric_history(run_id, name)} for name in names}


def _model_digest() -> str:
    return files.sha256(paths.FINETUNED / "model.safetensors")


def _tags(source: Mapping[str, Any]) -> dict[str, str]:
    """What was trained on what (a demo is never mistaken for the tutorial), at which commit, in which experiment."""
    commit = {}
    with suppress(UserError):
        commit = {"git.commit": revision.read_commit()}
    return {
        "corpus": source["corpus"]["name"],
        "encoder": source["encoder"]["name"],
        "encoder.revision": str(source["encoder"]["revision"]),
        "encoder.sha256": source["encoder"]["files"]["model.safetensors"],
        **commit,
        **{name: os.environ[name] for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV") if name in os.environ},
    }


def _log_files(store: Store, run_id: str, written: Iterable[Path]) -> None:
    for path in written:
        store.client.log_artifact(run_id, str(path))


def _log_pictures(store: Store, run_id: str, pictures: "Mapping[str, Figure]") -> None:
    with TemporaryDirectory() as folder:
        for name, figure in pictures.items():
            figures.save(figure, Path(folder, name))
        store.client.log_artifacts(run_id, folder)


def _end(store: Store, run_id: str) -> None:
    if store.client.get_run(run_id).info.status != "FINISHED":
        store.client.set_terminated(run_id)


if __name__ == "__main__":
    run(lambda: mlflow_store.show_runs(sys.argv[2]) if sys.argv[1] == "ui" else track())
