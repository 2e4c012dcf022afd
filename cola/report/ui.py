"""MLflow's server on the runs here: `python -m cola.report.ui PORT` starts it, says where to look, and opens it.

MLflow's own first page is an overview of traces, of which there are none here, and its table has few columns: the
addresses below lead to the runs, with the columns of a view that is saved as a tag of the experiment.
"""

import os
import signal
import subprocess
import sys
import time
import webbrowser
from urllib.error import URLError
from urllib.request import urlopen

from cola.core.errors import UserError, run
from cola.report import mlflow_runs

START_SECONDS = 120


def addresses(server: str, experiment_id: str) -> dict[str, str]:
    """Where MLflow shows the runs of an experiment: as a table, as charts, and their samples side by side."""
    view = f"workflowType=machine_learning&viewStateShareKey={mlflow_runs.VIEW_NAME}"
    runs = f"{server}/#/experiments/{experiment_id}/runs?{view}"
    return {"runs": runs, "charts": f"{runs}&compareRunsMode=CHART", "samples": f"{runs}&compareRunsMode=ARTIFACT"}


def main() -> None:
    port = sys.argv[1]
    server = f"http://127.0.0.1:{port}"
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # the runs here, not those of another server
    experiment_id = mlflow_runs.save_view()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:///mlflow.db"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # and `finally` ends the server
    with subprocess.Popen(command, env=environment) as process:
        try:
            wait(process, server)
            found = addresses(server, experiment_id)
            print("", *(f"{what}: {address}" for what, address in found.items()), "", sep="\n", flush=True)
            if sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
                webbrowser.open(found["runs"])
            process.wait()
        except KeyboardInterrupt:
            process.wait(timeout=10)  # Ctrl-C has reached the server, too
        finally:
            process.terminate()
    if process.returncode > 0:
        raise UserError(f"MLflow ended (status {process.returncode}): see above")


def wait(process: "subprocess.Popen[bytes]", server: str) -> None:
    """Wait until the server answers, or has ended. Raises UserError where it does not within START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        try:
            with urlopen(f"{server}/health", timeout=5) as answer:  # noqa: S310 - http
                answer.read()
                return
        except (URLError, OSError):
            if time.monotonic() > deadline:
                raise UserError(f"MLflow does not answer on {server}") from None
            time.sleep(0.2)


if __name__ == "__main__":
    run(main)
