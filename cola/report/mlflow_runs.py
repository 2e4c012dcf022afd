"""Records of training runs in MLflow: a mirror of the files, from which no number is ever read back.

Without MLFLOW_TRACKING_URI the records are in mlflow.db and mlruns/ at the project's root, also those of experiments
that DVC runs in a copy of the project. Where MLflow cannot be reached, a warning is all that is lost, and
`python -m cola.report.mlflow_runs` (`make track`) records later what is missing.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Set before mlflow is imported, which reads them once. By default a dead server holds each call for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which may hold a password
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")  # seconds

import pandas as pd
from filelock import FileLock
from mlflow.entities import Metric, Param, Run
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
_BATCH = 500  # metrics in one call; the server takes up to 1,000

Record = Callable[[MlflowClient, str], None]  # records what a stage wrote, with a client and the experiment's id


def record(stage: Record) -> None:
    """Record what a stage wrote: `training`, `evaluation` or `samples`. MLflow's faults end in a warning."""
    if fault := _recording_error(stage):
        print(f"warning: not recorded in MLflow: {fault}; `make track` records it later", file=sys.stderr)


def prepare() -> None:
    """Load what connects to MLflow's store, and make SQLite's tables where there are none, which `record` needs later.

    A fault here is one there, which warns of it.
    """
    with suppress(Exception):
        _connect()


def training(client: MlflowClient, experiment_id: str) -> None:
    """A new run: settings, a point for every step and epoch, times, files and figures of the training."""
    steps, history = files.read_csv(paths.STEPS), files.read_csv(paths.HISTORY)
    timings = files.read_json(paths.TIMINGS)
    machine = {name: timings.pop(name) for name in ("device", "precision")}
    ended = int(time.time() * 1000)
    run_id = client.create_run(
        experiment_id,
        start_time=ended - int(1000 * (timings["training_seconds"] + timings["validation_seconds"])),
        run_name=os.environ.get("DVC_EXP_NAME"),
        tags=_tags() | machine,
    ).info.run_id
    settings = params.flatten(params.load(paths.PARAMS))
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in settings.items()])
    points = [*_points(steps, "step", ended), *_points(history, "epoch", ended)]
    points += [Metric(name, value, ended, 0) for name, value in timings.items()]
    for start in range(0, len(points), _BATCH):
        client.log_batch(run_id, metrics=points[start : start + _BATCH])
    client.set_terminated(run_id, end_time=ended)
    written = [paths.CORPUS_METRICS, paths.TRAIN_METRICS, paths.HISTORY, paths.STEPS, paths.TIMINGS]
    _log_model(client, run_id)
    _log_files(client, run_id, written, {"learning_curve.png": figures.learning_curve(history)})


def evaluation(client: MlflowClient, experiment_id: str) -> None:
    """The test's scores, predictions and figures, to the run of the model."""
    run_id, now = _run_of_the_model(client, experiment_id), int(time.time() * 1000)
    scores = files.read_json(paths.TEST_METRICS) | files.read_json(paths.ANALYSIS)
    client.log_batch(run_id, metrics=[Metric(f"test_{name}", value, now, 0) for name, value in scores.items()])
    drawn = {
        "mcc_per_batch.png": figures.mcc_per_batch(files.read_csv(paths.MCC_PER_BATCH)),
        "calibration.png": figures.calibration(files.read_csv(paths.CALIBRATION)),
        "per_source.png": figures.mcc_per_source(files.read_csv(paths.PER_SOURCE)),
        "confusion_matrix.png": figures.confusion_matrix(files.read_csv(paths.PREDICTIONS)),
    }
    tables = [paths.MCC_PER_BATCH, paths.PREDICTIONS, paths.PER_SOURCE, paths.CALIBRATION]
    _log_files(client, run_id, [paths.TEST_METRICS, paths.ANALYSIS, *tables], drawn)


def samples(client: MlflowClient, experiment_id: str) -> None:
    """The sampled test sentences and their predictions, to the run of the model."""
    _log_files(client, _run_of_the_model(client, experiment_id), [paths.SAMPLES], {})


def seeds(summary: Mapping[str, Any], models: Iterable[str], client: MlflowClient, experiment_id: str) -> None:
    """A parent of the runs that trained these models (their sha256), with the seeds' statistics (seeds.summary)."""
    parent = client.create_run(experiment_id, run_name=f"{len(summary['mcc'])} seeds").info.run_id
    now = int(time.time() * 1000)
    statistics = [Metric(f"test_mcc_{name}", summary[name], now, 0) for name in ("mean", "standard_deviation")]
    client.log_batch(parent, metrics=statistics)
    for digest in models:
        child = _run_that_trained(client, experiment_id, digest)
        if child:  # a model that came from another's cache has no run here
            client.set_tag(child.info.run_id, "mlflow.parentRunId", parent)
    client.set_terminated(parent)
    _log_files(client, parent, [paths.SEEDS, paths.SEEDS_PICTURE], {})


def main() -> None:
    """Record what MLflow lacks of the workspace's results, which must be those of params.yaml."""
    status = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=False)  # noqa: S607
    if status.returncode or json.loads(status.stdout):
        raise UserError("the results are not those of params.yaml and this code: `dvc repro` makes and records them")

    if fault := _recording_error(_record_missing):
        raise UserError(f"not recorded in MLflow: {fault}")


def _record_missing(client: MlflowClient, experiment_id: str) -> None:
    """Record every stage of which the model's newest run lacks the file that is logged last."""
    last_logged = {
        training: "learning_curve.png",
        evaluation: "confusion_matrix.png",
        samples: paths.SAMPLES.name,
    }
    for stage, file in last_logged.items():
        newest = _newest_run(client, experiment_id)
        if newest and file in {artifact.path for artifact in client.list_artifacts(newest.info.run_id)}:
            continue
        if newest and stage is training:  # half a record, of a server that went away
            client.delete_run(newest.info.run_id)
        stage(client, experiment_id)
        print(f"recorded in MLflow: the {stage.__name__}")


def _recording_error(stage: Record) -> str | None:
    """Call `stage` with a client and the experiment's id. Returns what MLflow raises, in one line; None if nothing."""
    try:
        client = _connect()
        stage(client, _experiment(client))
    except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests'
        return re.sub("//[^/@ ]*@", "//", " ".join(str(error).split()))[:200]  # without the password of a URL
    return None


def _root() -> Path:
    """The main project, also in DVC's copy of it."""
    return Path(os.environ.get("DVC_ROOT", ".")).absolute()


def _connect() -> MlflowClient:
    # Two runs at once must not both create the database.
    with FileLock(_root() / ".dvc" / "tmp" / "mlflow.lock", timeout=60):
        return MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_root()}/mlflow.db")


def _experiment(client: MlflowClient) -> str:
    """The experiment's id; it is created where there is none."""
    artifact_location = None if os.environ.get("MLFLOW_TRACKING_URI") else (_root() / "mlruns").as_uri()
    try:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT, artifact_location)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return _experiment(client)  # another machine's run has just created it


def _newest_run(client: MlflowClient, experiment_id: str) -> Run | None:
    """The newest run that trained the model in the workspace."""
    return _run_that_trained(client, experiment_id, files.sha256(paths.FINETUNED / "model.safetensors"))


def _run_that_trained(client: MlflowClient, experiment_id: str, digest: str) -> Run | None:
    """The newest run that trained the model with this sha256."""
    runs = client.search_runs([experiment_id], f"tags.`model.sha256` = '{digest}'", max_results=1)
    return runs[0] if runs else None


def _run_of_the_model(client: MlflowClient, experiment_id: str) -> str:
    """The newest run that trained the model in the workspace; a new one where none did (in a fresh clone, say)."""
    newest = _newest_run(client, experiment_id)
    if newest is None:
        newest = client.create_run(experiment_id, tags=_tags())
        client.set_terminated(newest.info.run_id)
    return newest.info.run_id


def _tags() -> dict[str, str]:
    """What was trained on what (a demo is never mistaken for the tutorial), at which commit, in which experiment."""
    source = files.read_json(paths.FINETUNED / "source.json")
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    surroundings = ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")
    return {
        "model.sha256": files.sha256(paths.FINETUNED / "model.safetensors"),
        "corpus": source["corpus"]["name"],
        "encoder": source["encoder"]["name"],
        "encoder.revision": str(source["encoder"]["revision"]),
        "encoder.sha256": source["encoder"]["files"]["model.safetensors"],
        **({"git.commit": git.stdout.strip()} if git.returncode == 0 else {}),
        **{name: os.environ[name] for name in surroundings if name in os.environ},
    }


def _points(table: pd.DataFrame, index: str, timestamp: int) -> list[Metric]:
    """A point for every cell; the column `index` has the step of a row's points."""
    return [
        Metric(name, float(value), timestamp, int(step))
        for name in table.columns.drop(index)
        for step, value in zip(table[index], table[name], strict=True)
    ]


def _log_files(client: MlflowClient, run_id: str, written: Iterable[Path], drawn: Mapping[str, "Figure"]) -> None:
    for path in written:
        client.log_artifact(run_id, str(path))
    for name, figure in drawn.items():
        client.log_figure(run_id, figure, name)


def _log_model(client: MlflowClient, run_id: str) -> None:
    """The model as `mlflow models serve` takes it: a reference to its files (pyfunc.py) and this library."""
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
        client.log_artifacts(run_id, str(folder), "model")


if __name__ == "__main__":
    run(main)
