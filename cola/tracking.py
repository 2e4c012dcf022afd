"""Records of training runs in MLflow: a mirror of the files, from which no number is ever read back.

Without MLFLOW_TRACKING_URI the records are in mlflow.db and mlruns/ at the project's root, also those of experiments
that DVC runs in a copy of the project. Where MLflow cannot be reached, a warning is all that is lost.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Set before mlflow is imported, which reads them once.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # by default a dead server holds each call for minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")  # seconds

import pandas as pd
from filelock import FileLock
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logging.getLogger("mlflow").setLevel(logging.WARNING)  # each table of a new database is not news

EXPERIMENT = "bert-cola"
_BATCH = 500  # metrics in one call; the server takes up to 1,000


def record_training(
    *,
    model_sha256: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    steps: pd.DataFrame,
    history: pd.DataFrame,
    timings: Mapping[str, float],
    files: Iterable[Path],
    pictures: Mapping[str, "Figure"],
) -> None:
    """Record one training as a new run: `steps` by their column step, `history` by epoch, `timings` once."""

    def record(client: MlflowClient, experiment_id: str) -> None:
        ended = int(time.time() * 1000)
        run = client.create_run(
            experiment_id,
            start_time=ended - int(1000 * (timings["training_seconds"] + timings["validation_seconds"])),
            run_name=os.environ.get("DVC_EXP_NAME"),
            tags={"model.sha256": model_sha256, **tags, **_surroundings()},
        )
        run_id = run.info.run_id
        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
        points = [*_points(steps, "step", ended), *_points(history, "epoch", ended)]
        points += [Metric(name, value, ended, 0) for name, value in timings.items()]
        for start in range(0, len(points), _BATCH):
            client.log_batch(run_id, metrics=points[start : start + _BATCH])
        _log_files(client, run_id, files, pictures)
        client.set_terminated(run_id, end_time=ended)

    _try(record)


def record_results(
    *,
    model_sha256: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Iterable[Path],
    pictures: Mapping[str, "Figure"],
) -> None:
    """Add results to the newest run that trained this model; where none did (a fresh clone), to a new run."""

    def record(client: MlflowClient, experiment_id: str) -> None:
        runs = client.search_runs([experiment_id], f"tags.`model.sha256` = '{model_sha256}'", max_results=1)
        if runs:
            run_id = runs[0].info.run_id
        else:
            run = client.create_run(experiment_id, tags={"model.sha256": model_sha256, **tags, **_surroundings()})
            run_id = run.info.run_id
            client.set_terminated(run_id)
        now = int(time.time() * 1000)
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        _log_files(client, run_id, files, pictures)

    _try(record)


def tags(source: Mapping[str, Any]) -> dict[str, str]:
    """Tags that say what was trained on what, from a model's source.json: a demo is never mistaken for the tutorial."""
    return {
        "corpus": source["corpus"]["name"],
        "encoder": source["encoder"]["name"],
        "encoder.revision": str(source["encoder"]["revision"]),
        "encoder.sha256": source["encoder"]["files"]["model.safetensors"],
    }


def _try(record: Callable[[MlflowClient, str], None]) -> None:
    """Give `record` a client and the experiment's id. What MLflow raises becomes a warning: its files are safe."""
    root = Path(os.environ.get("DVC_ROOT", ".")).absolute()  # the main project, also in DVC's copy of it
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    files = None if uri else (root / "mlruns").as_uri()
    try:
        # Two runs at once must not both create the database.
        with FileLock(root / ".dvc" / "tmp" / "mlflow.lock", timeout=60):
            client = MlflowClient(uri or f"sqlite:///{root}/mlflow.db")
            experiment = client.get_experiment_by_name(EXPERIMENT)
            experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT, files)
        record(client, experiment_id)
    except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests'
        reason = " ".join(str(error).split())
        print(f"warning: not recorded in MLflow: {reason[:200]}", file=sys.stderr)


def _points(table: pd.DataFrame, index: str, timestamp: int) -> list[Metric]:
    """A point for each cell of each column but `index`, which is the point's step."""
    return [
        Metric(name, float(value), timestamp, int(step))
        for name in table.columns.drop(index)
        for step, value in zip(table[index], table[name], strict=True)
    ]


def _log_files(client: MlflowClient, run_id: str, files: Iterable[Path], pictures: Mapping[str, "Figure"]) -> None:
    for path in files:
        client.log_artifact(run_id, str(path))
    for name, figure in pictures.items():
        client.log_figure(run_id, figure, name)


def _surroundings() -> dict[str, str]:
    """Tags that say which commit, and which DVC experiment, a run belongs to."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    names = ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")
    return {
        **({"git.commit": git.stdout.strip()} if git.returncode == 0 else {}),
        **{name: os.environ[name] for name in names if name in os.environ},
    }
