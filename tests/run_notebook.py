"""Runs tutorial.ipynb. `python -m tests.run_notebook` does so on the result in the workspace, and keeps the outputs.

It also keeps the result files that README.md shows of the demo: `make docs` reads metrics/reference/demo/.
"""

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from cola.core import paths

NAME = "tutorial.ipynb"
DEMO = paths.REFERENCE / "demo"
SHOWN = (paths.FINETUNED / "source.json", paths.HISTORY, paths.TEST_METRICS, paths.ANALYSIS, paths.SAMPLES)


def run(folder, **options):
    """The notebook after a run from top to bottom on the result in `folder`; the options are for the kernel's start.

    Outputs repeat: no times, no version, and what a cell prints is one piece. Raises CellExecutionError where a cell
    fails.
    """
    notebook = nbformat.read(folder / NAME, as_version=4)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, record_timing=False, coalesce_streams=True, resources=place).execute(**options)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


if __name__ == "__main__":
    nbformat.write(run(Path()), NAME)
    DEMO.mkdir(exist_ok=True)
    for path in SHOWN:
        shutil.copyfile(path, DEMO / path.name)
