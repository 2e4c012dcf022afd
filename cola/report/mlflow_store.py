"""The MLflow server or database that trainings are recorded in, its experiment, and its errors as one line.

MLFLOW_TRACKING_URI names the server or database. The default is the project's mlflow.db, with files in mlruns/. A
relative path starts in the main project, also for experiments that DVC runs in a copy of it.
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
from urllib.parse import quote, unquote

# MLflow reads these once, when it is imported. By default a dead server holds each call for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which may hold a password
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")  # seconds

from filelock import FileLock
from mlflow.store.db import utils as database_utils
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from requests import RequestException
from requests.exceptions import SSLError
from sqlalchemy.exc import OperationalError

from cola.core import files, paths
from cola.core.errors import UserError, hide_passwords, join_lines

database_utils.MAX_RETRY_COUNT = 1  # by default a dead database is tried for a minute
logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # otherwise it prints tracebacks of the errors below, too

DATABASES = tuple(DATABASE_ENGINES)  # a URI that begins so is a database, which this process opens itself
EXPERIMENT = "bert-cola"  # MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID overrides it


@dataclass(frozen=True)
class Store:
    """A client of MLflow, and the id of the experiment that runs are recorded in."""

    client: MlflowClient
    experiment_id: str


def connect() -> MlflowClient:
    """Return a client of MLflow. A missing local database is created, which takes seconds."""
    os.environ.setdefault("PGCONNECT_TIMEOUT", "4")  # seconds; PostgreSQL's library reads it as it connects
    uri = read_tracking_uri()
    database = Path(unquote(uri.partition("///")[2].partition("?")[0]))
    # Two processes must not create the database at once. A process that is killed must not leave half a database.
    with FileLock(paths.find_root() / ".dvc" / "tmp" / "mlflow.lock", timeout=60):
        if uri.startswith("sqlite:////"):
            if not database.exists():
                with files.atomic_file(database) as unfinished:
                    unfinished.unlink(missing_ok=True)
                    MlflowClient(f"sqlite:///{_quote(unfinished)}")
            if database.is_relative_to(paths.find_root()):
                _relocate(database)
        return MlflowClient(uri)


def try_log(log: Callable[[Store], Any], again: str = "`make track`") -> str | None:
    """Call `log` with the store. Return None, or the error and its remedy in one line: `again` repeats the record."""
    for _ in range(2):
        try:
            client = connect()
            log(Store(client, find_experiment(client)))
            return None
        except Exception as error:  # MLflow raises SQLAlchemy's and requests' errors, too
            failure = error
        if not re.search("unique|duplicate|already exists", str(failure), re.IGNORECASE):
            break  # otherwise another process has just created the same experiment or data set: the next try uses it
    remedy = f"{again} records it later" if is_temporary(failure) else f"fix that, and {again} records it"
    return f"{describe(failure)}; {remedy}"


def show_runs(port: str) -> None:
    """Print the address of the runs, and become MLflow's server on that port. Raises UserError if it cannot start."""
    try:
        with socket.create_server(("127.0.0.1", int(port))) as server:  # on a taken port, mlflow ends with status 0
            port = str(server.getsockname()[1])  # 0 means any free port
    except (OSError, OverflowError, ValueError) as error:
        raise UserError(f"port {port} cannot be used ({error}): choose another, as in `make ui PORT=5001`") from None
    try:
        uri = read_tracking_uri()
        if not is_local_uri(uri) and not uri.startswith(DATABASES):
            os.environ.pop("MLFLOW_TRACKING_URI")  # a server shows its runs itself: show the project's database
        client = connect()
    except Exception as error:
        raise UserError(f"MLflow cannot show the runs: {describe(error)}") from None
    address = f"http://127.0.0.1:{port}/#/experiments"
    try:  # MLflow's first page is about language models: the address is the page of the experiment
        address += f"/{find_experiment(client)}?workflowType=machine_learning"
    except Exception as error:  # a deleted experiment can be restored in the server
        print(f"warning: {describe(error)}", file=sys.stderr)
    print(f"the runs: {address}", flush=True)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = read_tracking_uri()  # not an argument: it may hold a password
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # the server starts in 5 seconds instead of 20
    os.environ.pop("MLFLOW_STATIC_PREFIX", None)  # it would change the address
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    os.execv(sys.executable, command)  # noqa: S606


def read_tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the URI of the project's database, with an absolute path.

    Raises UserError for an address without http://, which MLflow would take for a folder.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    address = uri.rpartition("@")[2]  # without a user and password
    if re.match(r"[\w.-]+:\d+(/|$)", address) and "//" not in uri:
        raise UserError(f"MLFLOW_TRACKING_URI, at {address}, has no scheme: begin it with http://")
    uri = re.sub("^sqlite[^:]*:///(?=[^/:?])", lambda start: f"{start[0]}{_quote(paths.find_root())}/", uri)
    return (paths.find_root() / local_file_uri_to_path(uri)).as_uri() if is_local_uri(uri) else uri


def _quote(path: Path) -> str:
    """Return the path for a database's URI. MLflow makes the folder of the quoted path, so no more is quoted."""
    return re.sub("[%?#]", lambda letter: quote(letter[0]), str(path))


def _relocate(database: Path) -> None:
    """Correct the paths of files in the database of a moved or copied project: MLflow stores absolute paths.

    A path in another project's mlruns/ is replaced if this project has the same folder, or if the path is gone.
    """
    here = (paths.find_root() / "mlruns").as_uri()
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            query = f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE 'file:///%'"  # noqa: S608
            for (old,) in connection.execute(query).fetchall():
                match = re.search(r"/mlruns(/\d+)?(/\w{32}/artifacts)?$", old)
                if match and not old.startswith(here):
                    new = here + match[0].removeprefix("/mlruns")
                    if Path(local_file_uri_to_path(new)).exists() or not Path(local_file_uri_to_path(old)).exists():
                        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))  # noqa: S608


def find_experiment(client: MlflowClient) -> str:
    """Return the id of the experiment, which is created if it is missing. Raises UserError if it was deleted."""
    name, identifier = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID", "")
    by_id = identifier and not name
    experiment = client.get_experiment(identifier) if by_id else client.get_experiment_by_name(name or EXPERIMENT)
    if experiment is None:
        folder = (paths.find_root() / "mlruns").as_uri() if read_tracking_uri().startswith(DATABASES) else None
        return str(client.create_experiment(name or EXPERIMENT, folder))
    if experiment.lifecycle_stage == "deleted":
        command = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            command = f"MLFLOW_TRACKING_URI={shlex.quote(read_tracking_uri())} {command}"
        raise UserError(f"the experiment {experiment.name} was deleted: `{command}` restores it")
    return str(experiment.experiment_id)


def is_temporary(error: BaseException) -> bool:
    """Return whether MLflow or its database did not answer, which may pass."""
    text, cause = str(error), error.__cause__ or error.__context__
    if isinstance(error, OperationalError):
        return "(sqlite3." not in text or "locked" in text
    if isinstance(error, RequestException):
        return not isinstance(error, ValueError | SSLError)  # an invalid address, a wrong certificate
    return isinstance(error, ConnectionError | TimeoutError) or (cause is not None and is_temporary(cause))


def describe(error: BaseException) -> str:
    """Return the error in one line, without passwords. The middle of a long text is cut: remedies stand at the end."""
    text = re.sub("<database_uri>", lambda _: shlex.quote(read_tracking_uri()), join_lines(error)) or repr(error)
    if "out-of-date database schema" in text:
        text += " Where a newer MLflow made it, take another database, as in MLFLOW_TRACKING_URI=sqlite:///new.db"
    text = hide_passwords(text, [os.environ.get("MLFLOW_TRACKING_URI", "")])
    text = text if len(text) <= 1000 else f"{text[:600]} ... {text[-400:]}"
    return re.sub("//[^/@ ]*@", "//", text).rstrip(".")
