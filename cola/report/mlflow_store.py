"""Where trainings are recorded: MLflow's server or database, its experiment, and what it says where it cannot record.

Without MLFLOW_TRACKING_URI that is mlflow.db and mlruns/. A relative path is in the main project, also for experiments
that DVC runs in a copy of it.
"""

import logging
import os
import re
import shlex
import socket
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Set before mlflow is imported, which reads them once. By default a dead server holds each call for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which may hold a password
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")  # seconds

from filelock import FileLock
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from requests import RequestException
from sqlalchemy.exc import OperationalError

from cola.core import files
from cola.core.errors import UserError, one_line

logging.getLogger("mlflow").setLevel(logging.WARNING)  # else it tells of every table of a new database

DATABASES = tuple(DATABASE_ENGINES)  # how a URI begins if this process opens MLflow's database itself
EXPERIMENT = "bert-cola"  # unless MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID names another


@dataclass(frozen=True)
class Store:
    """Where runs are recorded: a client of MLflow, and the id of the experiment there."""

    client: MlflowClient
    experiment_id: str


def connect() -> MlflowClient:
    """A client of MLflow; a local database is created if there is none, which takes seconds."""
    uri = tracking_uri()
    database = Path(uri.partition("///")[2].partition("?")[0])
    # Two processes must not create the database at once; one that is killed meanwhile must not leave half of it.
    with FileLock(root() / ".dvc" / "tmp" / "mlflow.lock", timeout=60):
        if uri.startswith("sqlite:////"):
            if not database.exists():
                with files.atomic_file(database) as unfinished:
                    unfinished.unlink(missing_ok=True)
                    MlflowClient(f"sqlite:///{unfinished}")
            if database.is_relative_to(root()):
                _relocate(database)
        return MlflowClient(uri)


def try_log(log: Callable[[Store], Any], again: str = "`make track`") -> str | None:
    """Call `log` with the store. Returns None, or MLflow's error in one line, with what to do: `again` logs it anew."""
    for _ in range(2):
        try:
            client = connect()
            log(Store(client, experiment_id(client)))
            return None
        except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests'
            fault = error
        if not re.search("unique|duplicate|already exists", str(fault), re.IGNORECASE):
            break  # otherwise another process has just created the same experiment or data set, which is there now
    remedy = f"{again} records it later" if is_of_connection(fault) else f"fix that, and {again} records it"
    return f"{describe(fault)}; {remedy}"


def show_runs(port: str) -> None:
    """Print the address of the runs, and become MLflow's server on that port. Raises UserError if it cannot start."""
    try:
        with socket.create_server(("127.0.0.1", int(port))) as server:  # mlflow would end with status 0
            port = str(server.getsockname()[1])  # 0 asks for any that is free
    except (OSError, OverflowError, ValueError) as error:
        raise UserError(f"port {port} cannot be used ({error}): choose another, as in `make ui PORT=5001`") from None
    try:
        uri = tracking_uri()
        if not is_local_uri(uri) and not uri.startswith(DATABASES):
            os.environ.pop("MLFLOW_TRACKING_URI")  # the runs here, not those of another server
        client = connect()
    except Exception as error:
        raise UserError(f"MLflow cannot show the runs: {describe(error)}") from None
    # MLflow's first page shows traces of language models, of which there are none.
    runs = f"http://127.0.0.1:{port}/#/experiments"
    try:
        runs += f"/{experiment_id(client)}?workflowType=machine_learning"
    except Exception as error:
        print(f"warning: {describe(error)}", file=sys.stderr)
    print(f"the runs: {runs}", flush=True)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = tracking_uri()  # which may hold a password
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # it starts in 5 seconds instead of 20
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    os.execv(sys.executable, command)  # noqa: S606


def root() -> Path:
    """The main project, also in DVC's copy of it."""
    return Path(os.environ.get("DVC_ROOT", ".")).absolute()


def tracking_uri() -> str:
    """The URI of MLFLOW_TRACKING_URI, or of the project's own database, with an absolute path."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    uri = re.sub("^sqlite[^:]*:///(?=[^/:?])", lambda start: f"{start[0]}{root()}/", uri)
    return (root() / local_file_uri_to_path(uri)).as_uri() if is_local_uri(uri) else uri


def _relocate(database: Path) -> None:
    """Correct the paths of files in the database of a project that was moved or copied: MLflow stores absolute paths.

    A path in another project's mlruns/ is replaced if this project has the same, or if it no longer exists.
    """
    here = (root() / "mlruns").as_uri()
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            away = f"SELECT DISTINCT {column} FROM {table} WHERE substr({column}, 1, ?) != ?"  # noqa: S608
            for (old,) in connection.execute(away, (len(here), here)).fetchall():
                if match := re.search(r"/mlruns(/\d+)?(/\w{32}/artifacts)?$", old):
                    new = here + match[0].removeprefix("/mlruns")
                    if _exists(new) or not _exists(old):
                        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))  # noqa: S608


def _exists(uri: str) -> bool:
    """Whether a folder exists; a URI of another machine counts as one that does."""
    return not is_local_uri(uri) or Path(local_file_uri_to_path(uri)).exists()


def experiment_id(client: MlflowClient) -> str:
    """The id of the experiment, which is created if there is none. Raises UserError if MLflow cannot record to it."""
    name, identifier = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID")
    experiment: Experiment | None
    try:
        if identifier and not name:
            experiment = client.get_experiment(identifier)
        else:
            experiment = client.get_experiment_by_name(name or EXPERIMENT)
        if experiment is None:
            artifact_location = (root() / "mlruns").as_uri() if tracking_uri().startswith(DATABASES) else None
            return str(client.create_experiment(name or EXPERIMENT, artifact_location))
    except MlflowException as error:
        if is_of_connection(error) or "API request" in str(error):
            raise
        raise UserError(f"{error}; MLFLOW_EXPERIMENT_NAME names another experiment") from error
    if experiment.lifecycle_stage == "deleted":
        uri = "" if os.environ.get("MLFLOW_TRACKING_URI") else f"MLFLOW_TRACKING_URI={shlex.quote(tracking_uri())} "
        restore = f"`{uri}mlflow experiments restore --experiment-id {experiment.experiment_id}` restores it"
        raise UserError(f"the experiment {experiment.name} was deleted: {restore}")
    return str(experiment.experiment_id)


def is_of_connection(error: BaseException) -> bool:
    """Whether MLflow or its database did not answer, which may pass."""
    text, cause = str(error), error.__cause__ or error.__context__
    if isinstance(error, OperationalError):
        return "(sqlite3." not in text or "locked" in text
    if isinstance(error, RequestException):
        return not isinstance(error, ValueError)  # of an address that is none
    return isinstance(error, ConnectionError | TimeoutError) or (cause is not None and is_of_connection(cause))


def describe(error: BaseException) -> str:
    """An error in one line, without passwords. MLflow's own remedy stands whole at its end; a page of HTML is cut."""
    text = re.sub("<database_uri>", lambda _: shlex.quote(tracking_uri()), one_line(error)) or repr(error)
    text = text if len(text) <= 1000 else f"{text[:600]} ... {text[-400:]}"
    return re.sub("//[^/@ ]*@", "//", text).rstrip(".")
