"""Records of training runs in MLflow: a mirror of the files, from which no number is ever read back.

Without MLFLOW_TRACKING_URI the records are in mlflow.db and mlruns/ at the project's root, also those of experiments
that DVC runs in a copy of the project. Where MLflow cannot be reached, a warning is all that is lost, and
`python -m cola.report.mlflow_runs` (`make track`) records later what is missing.
"""

import hashlib
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Set before mlflow is imported, which reads them once. By default a dead server holds each call for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which may hold a password
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")  # seconds

from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.models.signature import ModelSignature
from mlflow.pyfunc import save_model
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema

from cola.core import files, params, paths
from cola.core.errors import UserError, run
from cola.report import figures, pyfunc

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logging.getLogger("mlflow").setLevel(logging.WARNING)  # else it tells of every table of a new database

EXPERIMENT = "bert-cola"
VIEW_NAME = "results"  # in an address, as viewStateShareKey: the page then shows these columns of the runs' table
_COLUMNS = {"metrics.`test_mcc`": 110, "tags.`encoder`": 300, "tags.`corpus`": 130, "params.`seed`": 80}  # pixels
_STATE = {"selectedColumns": list(_COLUMNS), "columnOrder": list(_COLUMNS), "columnWidths": _COLUMNS}
VIEW = {f"mlflow.sharedViewState.{VIEW_NAME}": json.dumps(_STATE)}
_SAMPLES_TABLE = "samples_table.json"
_BATCH = 500  # metrics in one call; the server takes up to 1,000

Record = Callable[[MlflowClient, str], None]  # records what a stage wrote, with a client and the experiment's id
Row = tuple[str, Mapping[str, float], int]  # step or epoch, its row in the files, milliseconds since 1970


def record(stage: Record) -> None:
    """Record what a stage wrote: `training`, `evaluation` or `samples`. MLflow's faults end in a warning."""
    warn(fault(stage))


def warn(found: str | None) -> None:
    """Print a warning of a fault of MLflow's, if there is one."""
    if found:
        print(f"warning: not recorded in MLflow: {found}; `make track` records it later", file=sys.stderr)


def fault(stage: Record) -> str | None:
    """Call `stage` with a client and the experiment's id. Returns what MLflow raises, in one line; None if nothing."""
    try:
        client = _connect()
        stage(client, _experiment(client))
    except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests'
        return re.sub("//[^/@ ]*@", "//", " ".join(str(error).split()))[:200]  # without the password of a URL
    return None


def prepare() -> None:
    """Load what connects to MLflow's store, and make SQLite's tables where there are none, which `record` needs later.

    A fault here is one there, which warns of it.
    """
    with suppress(Exception):
        _connect()


class LiveRun:
    """The run of a training that goes on: RUNNING from the first `update`, ended by `end`, or by `training`."""

    def __init__(
        self, settings: Mapping[str, Any], source: Mapping[str, Any], machine: Mapping[str, str], resumed: bool
    ) -> None:
        """Of the settings of params.yaml (flattened), the source.json of a model, its device and precision.

        A training that is resumed goes on in the run of an earlier one of the same, if that has not ended well.
        """
        self.settings, self.source, self.machine, self.resumed = settings, source, machine, resumed
        # Of what is trained and where, to find the run again: others may train the same, and record on the same server.
        parts = json.dumps([settings, source, machine, platform.node(), str(_root())], sort_keys=True)
        self.digest = hashlib.sha256(parts.encode()).hexdigest()
        self.run_id: str | None = None
        self._points: list[Metric] = []  # that MLflow does not have yet
        self._is_recorded: Callable[[Metric], bool] = lambda _: False

    def update(self, rows: Iterable[Row], client: MlflowClient, experiment_id: str) -> None:
        """Record these rows, and those of an update that failed."""
        self._points += [point for index, row, time in rows for point in _points(row, index, time)]
        if self.run_id is None and self.resumed and (run_id := self.unfinished(client, experiment_id)):
            client.update_run(run_id, "RUNNING")
            self._is_recorded, self.run_id = _recorded(client, run_id), run_id
        if self.run_id is None:
            self.run_id = self.create(client, experiment_id)
            _log_settings(client, self.run_id, self.settings)
            _log_datasets(client, self.run_id, self.source, "train", "validation")
        self._points = [point for point in self._points if not self._is_recorded(point)]
        _log_points(client, self.run_id, self._points)

    def end(self, rows: Iterable[Row], status: str, client: MlflowClient, experiment_id: str) -> None:
        """Record the last rows of a training that did not end well, and how it ended: FAILED or KILLED."""
        self.update(rows, client, experiment_id)
        client.set_terminated(str(self.run_id), status)

    def unfinished(self, client: MlflowClient, experiment_id: str) -> str | None:
        """The newest run of this training that has not ended well."""
        same = f"tags.`training.digest` = '{self.digest}' and attributes.status != 'FINISHED'"
        runs = client.search_runs([experiment_id], same, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def create(self, client: MlflowClient, experiment_id: str, start_time: int | None = None) -> str:
        """A new run, which is running; `start_time` is in milliseconds since 1970, by default now."""
        tags = {**_tags(self.source), **self.machine, "training.digest": self.digest}
        run = client.create_run(experiment_id, start_time, tags, os.environ.get("DVC_EXP_NAME"))
        return str(run.info.run_id)


def training(client: MlflowClient, experiment_id: str, live: LiveRun | None = None, run_id: str | None = None) -> None:
    """A run that has ended well: settings, a point for every step and epoch, times, files and figures of the training.

    What `live`, or an earlier record that was cut, has left of it is not recorded twice.
    """
    steps, history = files.read_csv(paths.STEPS), files.read_csv(paths.HISTORY)
    timings = files.read_json(paths.TIMINGS)
    machine = {name: timings.pop(name) for name in ("device", "precision")}
    ended = int(time.time() * 1000)
    started = ended - int(1000 * (timings["training_seconds"] + timings["validation_seconds"]))
    live = live or LiveRun(params.flatten(params.load(paths.PARAMS)), _source(), machine, resumed=True)
    run_id = run_id or live.run_id or (live.unfinished(client, experiment_id) if live.resumed else None)
    run_id = run_id or live.create(client, experiment_id, started)
    _log_settings(client, run_id, live.settings)
    _log_datasets(client, run_id, live.source, "train", "validation")
    tables = (("step", steps), ("epoch", history))
    rows = [(index, row) for index, table in tables for row in table.to_dict("records")]
    points = [point for index, row in rows for point in _points(row, index, ended)]
    points += [Metric(name, value, ended, 0) for name, value in timings.items()]
    is_recorded = _recorded(client, run_id)
    _log_points(client, run_id, [point for point in points if not is_recorded(point)])
    for name, value in {**machine, "model.sha256": _model_digest()}.items():
        client.set_tag(run_id, name, value)
    client.set_terminated(run_id, end_time=ended)
    written = [paths.CORPUS_METRICS, paths.TRAIN_METRICS, paths.HISTORY, paths.STEPS, paths.TIMINGS]
    _log_model(client, run_id, experiment_id)
    _describe(client, run_id, "Training", f"{live.source['encoder']['name']} on {live.source['corpus']['name']}")
    _log_files(client, run_id, written, {"learning_curve.png": figures.learning_curve(history)})


def evaluation(client: MlflowClient, experiment_id: str) -> None:
    """The test's scores, predictions and figures, to the run of the model."""
    run_id, now = _run_of_the_model(client, experiment_id), int(time.time() * 1000)
    scores = files.read_json(paths.TEST_METRICS) | files.read_json(paths.ANALYSIS)
    model = _logged_model(client, run_id)  # whose metrics these are, too
    points = [Metric(f"test_{name}", value, now, 0, model_id=model) for name, value in scores.items()]
    client.log_batch(run_id, metrics=points)
    _log_datasets(client, run_id, _source(), "test")
    interval = f"95% interval {scores['mcc_low']:.3f} to {scores['mcc_high']:.3f}"
    _describe(client, run_id, "Test", f"MCC **{scores['mcc']:.3f}**, {interval}, {scores['sentences']} sentences")
    drawn = {
        "mcc_per_batch.png": figures.mcc_per_batch(files.read_csv(paths.MCC_PER_BATCH)),
        "calibration.png": figures.calibration(files.read_csv(paths.CALIBRATION)),
        "per_source.png": figures.mcc_per_source(files.read_csv(paths.PER_SOURCE)),
        "confusion_matrix.png": figures.confusion_matrix(files.read_csv(paths.PREDICTIONS)),
    }
    tables = [paths.MCC_PER_BATCH, paths.PREDICTIONS, paths.PER_SOURCE, paths.CALIBRATION]
    _log_files(client, run_id, [paths.TEST_METRICS, paths.ANALYSIS, *tables], drawn)


def samples(client: MlflowClient, experiment_id: str) -> None:
    """The sampled test sentences and their predictions, to the run of the model: a file, a table, in words."""
    run_id, found = _run_of_the_model(client, experiment_id), files.read_json(paths.SAMPLES)
    columns = sorted(found[0], key=["sentence", "predicted"].__contains__, reverse=True)  # MLflow compares the second
    rows = [[sample[column] for column in columns] for sample in found]
    client.log_dict(run_id, {"columns": columns, "data": rows}, _SAMPLES_TABLE)
    # as client.log_table, which would append to the table of an earlier record
    client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": _SAMPLES_TABLE, "type": "table"}]))
    lines = [columns, ["---"] * len(columns), *rows]
    _describe(client, run_id, "Samples", "\n".join(f"| {' | '.join(map(_markdown, line))} |" for line in lines))
    _log_files(client, run_id, [paths.SAMPLES], {})


def seeds(summary: Mapping[str, Any], models: Iterable[str], client: MlflowClient, experiment_id: str) -> None:
    """A parent of the runs that trained these models (their sha256), with the seeds' statistics (seeds.summary)."""
    now = int(time.time() * 1000)
    statistics = [Metric(f"test_mcc_{name}", summary[name], now, 0) for name in ("mean", "standard_deviation")]
    written = [paths.SEEDS, paths.SEEDS_PICTURE]
    _parent(client, experiment_id, f"{len(summary['mcc'])} seeds", statistics, written, models)


def data_curve(summary: Mapping[str, Any], models: Iterable[str], client: MlflowClient, experiment_id: str) -> None:
    """A parent of the runs that trained these models, with the MCCs of data_curve.json; a point's step: sentences."""
    now = int(time.time() * 1000)
    means = [
        Metric(f"test_mcc_{way}", values["mean"], now, row["sentences"])
        for row in summary["curve"]
        for way, values in row.items()
        if way not in ("sentences", "differences")
    ]
    pictures = [paths.DATA_CURVE_PICTURE, paths.DATA_CURVE_EPOCHS, paths.DATA_CURVE_SOURCES]
    _parent(client, experiment_id, "data curve", means, [paths.DATA_CURVE, *pictures], models)


def _parent(
    client: MlflowClient,
    experiment_id: str,
    name: str,
    points: Sequence[Metric],
    written: Iterable[Path],
    models: Iterable[str],
) -> None:
    """A run with these points and files, and below it the runs that trained the models."""
    parent = client.create_run(experiment_id, run_name=name).info.run_id
    client.log_batch(parent, metrics=points)
    for digest in models:
        child = _run_that_trained(client, experiment_id, digest)
        if child:  # a model that came from another's cache has no run here
            client.set_tag(child.info.run_id, "mlflow.parentRunId", parent)
    client.set_terminated(parent)
    _log_files(client, parent, written, {})


def save_view() -> str:
    """Save the VIEW of the runs in an experiment that may have been made without it; returns the experiment's id."""
    client = _connect()
    experiment_id = _experiment(client)
    for name, state in VIEW.items():
        client.set_experiment_tag(experiment_id, name, state)
    return experiment_id


def main() -> None:
    """Record what MLflow lacks of the workspace's results, which must be those of params.yaml."""
    status = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=False)  # noqa: S607
    if status.returncode or json.loads(status.stdout):
        raise UserError("the results are not those of params.yaml and this code: `dvc repro` makes and records them")

    if found := fault(_record_missing):
        raise UserError(f"not recorded in MLflow: {found}")


def _record_missing(client: MlflowClient, experiment_id: str) -> None:
    """Record every stage of which the model's newest run lacks the file that is logged last."""
    last_logged: dict[Record, str] = {
        training: "learning_curve.png",
        evaluation: "confusion_matrix.png",
        samples: paths.SAMPLES.name,
    }
    for stage, file in last_logged.items():
        newest = _newest_run(client, experiment_id)
        if newest and file in {artifact.path for artifact in client.list_artifacts(newest.info.run_id)}:
            continue
        if newest and stage is training:  # half a record, of a server that went away, or one of an evaluation alone
            training(client, experiment_id, run_id=newest.info.run_id)
        else:
            stage(client, experiment_id)
        print(f"recorded in MLflow: the {stage.__name__}")


def _root() -> Path:
    """The main project, also in DVC's copy of it."""
    return Path(os.environ.get("DVC_ROOT", ".")).absolute()


def _connect() -> MlflowClient:
    database = _root() / "mlflow.db"
    # Two runs at once must not both create the database; one that is killed as it does must not leave half of one.
    with FileLock(_root() / ".dvc" / "tmp" / "mlflow.lock", timeout=60):
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri and not database.exists():
            with files.atomic_file(database) as partial:
                partial.unlink(missing_ok=True)
                MlflowClient(f"sqlite:///{partial}")
        return MlflowClient(uri or f"sqlite:///{database}")


def _experiment(client: MlflowClient) -> str:
    """The experiment's id; it is created where there is none."""
    artifact_location = None if os.environ.get("MLFLOW_TRACKING_URI") else (_root() / "mlruns").as_uri()
    try:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT, artifact_location, VIEW)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return _experiment(client)  # another machine's run has just created it


def _newest_run(client: MlflowClient, experiment_id: str) -> Run | None:
    """The newest run that trained the model in the workspace."""
    return _run_that_trained(client, experiment_id, _model_digest())


def _run_that_trained(client: MlflowClient, experiment_id: str, digest: str) -> Run | None:
    """The newest run that trained the model with this sha256."""
    runs = client.search_runs([experiment_id], f"tags.`model.sha256` = '{digest}'", max_results=1)
    return runs[0] if runs else None


def _run_of_the_model(client: MlflowClient, experiment_id: str) -> str:
    """The newest run that trained the model in the workspace; a new one where none did (in a fresh clone, say)."""
    newest = _newest_run(client, experiment_id)
    if newest is None:
        newest = client.create_run(experiment_id, tags=_tags(_source()) | {"model.sha256": _model_digest()})
        client.set_terminated(newest.info.run_id)
    return newest.info.run_id


def _source() -> Any:
    """What the model in the workspace was trained of: corpus and encoder."""
    return files.read_json(paths.FINETUNED / "source.json")


def _model_digest() -> str:
    return files.sha256(paths.FINETUNED / "model.safetensors")


def _tags(source: Mapping[str, Any]) -> dict[str, str]:
    """What was trained on what (a demo is never mistaken for the tutorial), at which commit, in which experiment."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    surroundings = ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")
    return {
        "corpus": source["corpus"]["name"],
        "encoder": source["encoder"]["name"],
        "encoder.revision": str(source["encoder"]["revision"]),
        "encoder.sha256": source["encoder"]["files"]["model.safetensors"],
        **({"git.commit": git.stdout.strip()} if git.returncode == 0 else {}),
        **{name: os.environ[name] for name in surroundings if name in os.environ},
    }


def _points(row: Mapping[str, float], index: str, time: int) -> list[Metric]:
    """A point for every cell of a row; its cell `index` is the points' step."""
    return [Metric(name, float(value), time, int(row[index])) for name, value in row.items() if name != index]


def _recorded(client: MlflowClient, run_id: str) -> Callable[[Metric], bool]:
    """Whether the run has a point of that name at that step."""

    @cache
    def steps(name: str) -> set[int]:
        return {point.step for point in client.get_metric_history(run_id, name)}

    return lambda point: point.step in steps(point.key)


def _log_points(client: MlflowClient, run_id: str, points: list[Metric]) -> None:
    """Record the points, and empty the list of those that are recorded."""
    while points:
        client.log_batch(run_id, metrics=points[:_BATCH])
        del points[:_BATCH]


def _log_settings(client: MlflowClient, run_id: str, settings: Mapping[str, Any]) -> None:
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in settings.items()])


def _log_files(client: MlflowClient, run_id: str, written: Iterable[Path], drawn: Mapping[str, "Figure"]) -> None:
    for path in written:
        client.log_artifact(run_id, str(path))
    for name, figure in drawn.items():
        client.log_figure(run_id, figure, name)


def _log_datasets(client: MlflowClient, run_id: str, source: Mapping[str, Any], *splits: str) -> None:
    """What the run has read: the corpus by name, the tables of its splits by their sha256."""
    checksums = (paths.TOKENIZED / files.CHECKSUMS).read_text(encoding="utf-8").splitlines()
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in checksums)}
    datasets = []
    for split in splits:
        table = paths.TOKENIZED / f"{split}.parquet"
        digest = digests[table.name][:36]  # MLflow takes no more
        dataset = Dataset(source["corpus"]["name"], digest, "local", json.dumps({"uri": table.as_posix()}))
        datasets.append(DatasetInput(dataset, [InputTag("mlflow.data.context", split)]))
    try:
        client.log_inputs(run_id, datasets)
    except MlflowException as error:
        if not re.search("unique|duplicate", str(error), re.IGNORECASE):
            raise
        client.log_inputs(run_id, datasets)  # another run has just recorded the same datasets, which are there now


def _describe(client: MlflowClient, run_id: str, heading: str, text: str) -> None:
    """Put a section into the run's description, which may have others, or a user's words before them."""
    name = "mlflow.note.content"
    words, *sections = re.split("^### ", client.get_run(run_id).data.tags.get(name, ""), flags=re.MULTILINE)
    kept = [f"### {section.strip()}\n\n" for section in sections if not section.startswith(f"{heading}\n")]
    client.set_tag(run_id, name, "".join([words, *kept, f"### {heading}\n{text}\n"]))


def _markdown(cell: Any) -> str:
    """A cell of a table: what Markdown or HTML would read as a mark is written as a number."""
    if isinstance(cell, float):
        return f"{cell:.2f}"
    return re.sub(r"[^\w\s.,'?!-]|_", lambda mark: f"&#{ord(mark[0])};", str(cell)) if cell != "---" else "---"


def _logged_model(client: MlflowClient, run_id: str) -> str | None:
    """The id of the run's model in MLflow, if it has one."""
    outputs = client.get_run(run_id).outputs
    return str(outputs.model_outputs[0].model_id) if outputs and outputs.model_outputs else None


def _log_model(client: MlflowClient, run_id: str, experiment_id: str) -> None:
    """The model as `mlflow models serve` takes it: a reference to its files (pyfunc.py) and this library."""
    if _logged_model(client, run_id):
        return
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings(action="ignore"):  # it wants an example
        reference, folder = Path(temporary, "reference.json"), Path(temporary, "model")
        files.write_json(reference, pyfunc.reference())
        library = shutil.copytree(Path(__file__).parents[1], Path(temporary, "cola"), ignore=lambda *_: ["__pycache__"])
        save_model(
            folder,
            loader_module="cola.report.pyfunc",
            data_path=str(reference),
            code_paths=[str(library)],
            signature=ModelSignature(
                Schema([ColSpec("string", "text")]),
                Schema([ColSpec("string", "label"), ColSpec("double", "probability")]),
            ),
            pip_requirements=[f"torch=={version('torch')}", f"transformers=={version('transformers')}"],
        )
        model_id = client.create_logged_model(experiment_id, "model", run_id).model_id
        client.log_model_artifacts(model_id, str(folder))
        client.finalize_logged_model(model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])


if __name__ == "__main__":
    run(main)
