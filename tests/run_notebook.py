"""Runs tutorial.ipynb. `python tests/run_notebook.py` does so on the result in the workspace, and keeps the outputs."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NAME = "tutorial.ipynb"


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
