"""Records of trainings in MLflow: a mirror of the files, from which no number is ever read back.

Without MLFLOW_TRACKING_URI the records are in mlflow.db and mlruns/ at the main project's root, also those of
experiments that DVC runs in a copy of the project.
`python -m cola.report.mlflow_runs track` (make track) records the workspace's result; with `ui 5000` (make ui) it shows
the runs on that port.
"""

import hashlib
import json
import logging
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Set before mlflow is imported, which reads them once. By default a dead server holds each call for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which may hold a password
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")  # seconds

from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.tracking import MlflowClient

from cola.core import files, params, paths
from cola.core.errors import UserError, run
from cola.report import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logging.getLogger("mlflow").setLevel(logging.WARNING)  # else it tells of every table of a new database

EXPERIMENT = "bert-cola"
_BATCH = 500  # metrics in one call; the server takes up to 1,000


@dataclass(frozen=True)
class Store:
    """Where runs are recorded: a client of MLflow, and the id of EXPERIMENT there."""

    client: MlflowClient
    experiment_id: str


def connect() -> MlflowClient:
    """A client of MLflow; the local database is created if there is none, which takes seconds."""
    database = _root() / "mlflow.db"
    # Two processes must not create the database at once; one that is killed meanwhile must not leave half of it.
    with FileLock(_root() / ".dvc" / "tmp" / "mlflow.lock", timeout=60):
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri and not database.exists():
            with files.atomic_file(database) as partial:
                partial.unlink(missing_ok=True)
                MlflowClient(f"sqlite:///{partial}")
        return MlflowClient(uri or f"sqlite:///{database}")


def try_log(log: Callable[[Store], Any]) -> str | None:
    """Call `log` with the store. Returns MLflow's error in one line without passwords, or None."""
    for _ in range(2):
        try:
            client = connect()
            log(Store(client, _experiment_id(client)))
            return None
        except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests'
            message = re.sub("//[^/@ ]*@", "//", " ".join(str(error).split()))[:200]
        if not re.search("unique|duplicate|already exists", message, re.IGNORECASE):
            break  # otherwise another process has just created the same experiment or data set, which is there now
    return message


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
        parts = json.dumps([settings, source, machine, platform.node(), str(_root())], sort_keys=True)
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
            self.log_inputs(store)
        self.points = [point for point in self.points if point.step not in self.logged.get(point.key, ())]
        while self.points:
            store.client.log_batch(self.run_id, metrics=self.points[:_BATCH])
            del self.points[:_BATCH]

    def log_inputs(self, store: Store) -> None:
        """Log the settings, and the tables of data/tokenized by their sha256. Again, it changes nothing."""
        settings = [Param(name, str(value)) for name, value in self.settings.items()]
        store.client.log_batch(self.run_id, params=settings)
        datasets = []
        for line in (paths.TOKENIZED / files.CHECKSUMS).read_text(encoding="utf-8").splitlines():
            digest, _, name = line.partition("  ")
            path = json.dumps({"uri": (paths.TOKENIZED / name).as_posix()})
            dataset = Dataset(self.source["corpus"]["name"], digest[:36], "local", path)  # it takes no more digits
            datasets.append(DatasetInput(dataset, [InputTag("mlflow.data.context", Path(name).stem)]))
        store.client.log_inputs(self.run_id, datasets)


def log_training(store: Store, run: TrainingRun | None = None) -> str:
    """Log what the stage train wrote, and end the run, whose id is returned.

    The run is the one that followed the training, or the newest that trained this model, or a new one.
    """
    history, timings = files.read_csv(paths.HISTORY), files.read_json(paths.TIMINGS)
    machine = {name: timings.pop(name) for name in ("device", "precision")}
    if run is None:
        source = files.read_json(paths.FINETUNED / "source.json")
        run = TrainingRun(params.flatten(params.load(paths.PARAMS)), source, machine, resumed=True)
    model = _model_digest()
    run.run_id = run.run_id or _find_run(store, "model.sha256", model)
    run.logged = _logged_steps(store, run.run_id) if run.run_id else {}
    now = int(time.time() * 1000)
    run.points = [Metric(name, value, now, 0) for name, value in timings.items()]
    for index, table in (("step", files.read_csv(paths.STEPS)), ("epoch", history)):
        for row in table.to_dict("records"):
            run.add(index, row, now)
    run.update(store)
    run.log_inputs(store)
    for name, value in {**machine, "model.sha256": model}.items():
        store.client.set_tag(run.run_id, name, value)
    written = [paths.CORPUS_METRICS, paths.TRAIN_METRICS, paths.HISTORY, paths.STEPS, paths.TIMINGS]
    _log_files(store, run.run_id, written, {"learning_curve.png": figures.learning_curve(history)})
    if store.client.get_run(run.run_id).info.status != "FINISHED":
        store.client.set_terminated(run.run_id)
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
    pictures = {
        "mcc_per_batch.png": figures.mcc_per_batch(files.read_csv(paths.MCC_PER_BATCH)),
        "calibration.png": figures.calibration(files.read_csv(paths.CALIBRATION)),
        "per_source.png": figures.mcc_per_source(files.read_csv(paths.PER_SOURCE)),
        "confusion_matrix.png": figures.confusion_matrix(files.read_csv(paths.PREDICTIONS)),
    }
    tables = [paths.MCC_PER_BATCH, paths.PREDICTIONS, paths.PER_SOURCE, paths.CALIBRATION]
    _log_files(store, run_id, [paths.TEST_METRICS, paths.ANALYSIS, *tables], pictures)


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
    _log_files(store, parent, written)
    store.client.set_terminated(parent)


def track() -> None:
    """Record the workspace's result, whatever MLflow has of it. Raises UserError if it is not that of params.yaml."""
    status = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=False)  # noqa: S607
    if status.returncode or json.loads(status.stdout):
        raise UserError("the results are not those of params.yaml and this code: `dvc repro` makes and records them")
    for log in (log_training, log_evaluation, log_samples):
        if error := try_log(log):
            raise UserError(f"not recorded in MLflow: {error}")
    print("recorded in MLflow: training, evaluation and samples")


def show_runs(port: str) -> None:
    """Print the address of the runs, and become MLflow's server on that port. Raises UserError if it is not free."""
    try:
        socket.create_server(("127.0.0.1", int(port))).close()  # mlflow would end with status 0
    except (OSError, OverflowError, ValueError) as error:
        raise UserError(f"port {port} cannot be used ({error}): choose another, as in `make ui PORT=5001`") from None
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # the runs here, not those of another server
    # MLflow's first page shows traces of language models, of which there are none.
    runs = f"http://127.0.0.1:{port}/#/experiments/{_experiment_id(connect())}?workflowType=machine_learning"
    print(f"the runs: {runs}", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # it starts in 5 seconds instead of 20
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    os.execv(sys.executable, [*command, "--backend-store-uri", "sqlite:///mlflow.db"])  # noqa: S606


def _root() -> Path:
    """The main project, also in DVC's copy of it."""
    return Path(os.environ.get("DVC_ROOT", ".")).absolute()


def _experiment_id(client: MlflowClient) -> str:
    """The id of EXPERIMENT, which is created if there is none."""
    if experiment := client.get_experiment_by_name(EXPERIMENT):
        return str(experiment.experiment_id)
    artifact_location = None if os.environ.get("MLFLOW_TRACKING_URI") else (_root() / "mlruns").as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location))


def _find_run(store: Store, tag: str, value: str, condition: str = "") -> str:
    """The id of the newest run with this value of a tag; empty if there is none."""
    runs = store.client.search_runs([store.experiment_id], f"tags.`{tag}` = '{value}'{condition}", max_results=1)
    return str(runs[0].info.run_id) if runs else ""


def _run_of_the_model(store: Store) -> str:
    """The id of the newest run that trained the model here, which is recorded if there is none, as in a fresh clone."""
    return _find_run(store, "model.sha256", _model_digest()) or log_training(store)


def _logged_steps(store: Store, run_id: str) -> dict[str, set[int]]:
    """{metric: its steps in the run}."""
    names = store.client.get_run(run_id).data.metrics
    return {name: {point.step for point in store.client.get_metric_history(run_id, name)} for name in names}


def _model_digest() -> str:
    return files.sha256(paths.FINETUNED / "model.safetensors")


def _tags(source: Mapping[str, Any]) -> dict[str, str]:
    """What was trained on what (a demo is never mistaken for the tutorial), at which commit, in which experiment."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    return {
        "corpus": source["corpus"]["name"],
        "encoder": source["encoder"]["name"],
        "encoder.revision": str(source["encoder"]["revision"]),
        "encoder.sha256": source["encoder"]["files"]["model.safetensors"],
        **({"git.commit": git.stdout.strip()} if git.returncode == 0 else {}),
        **{name: os.environ[name] for name in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV") if name in os.environ},
    }


def _log_files(
    store: Store, run_id: str, written: Iterable[Path], pictures: "Mapping[str, Figure] | None" = None
) -> None:
    for path in written:
        store.client.log_artifact(run_id, str(path))
    for name, figure in (pictures or {}).items():
        store.client.log_figure(run_id, figure, name)


if __name__ == "__main__":
    run(lambda: show_runs(sys.argv[2]) if sys.argv[1] == "ui" else track())
