"""Runs tutorial.ipynb. `python -m tests.run_notebook` saves the outputs on the workspace's result in the notebook.

It also saves the result files from which `make docs` writes README.md's demo, in metrics/reference/demo/.
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
    """Run the notebook on the result in `folder`, with options for the kernel's start; return it with its outputs.

    The outputs have no times and no version, so that they repeat. Raises CellExecutionError where a cell fails.
    """
    notebook = nbformat.read(folder / NAME, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, record_timing=False, coalesce_streams=True, resources=resources).execute(**options)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


if __name__ == "__main__":
    nbformat.write(run(Path()), NAME)
    DEMO.mkdir(exist_ok=True)
    for path in SHOWN:
        shutil.copyfile(path, DEMO / path.name)
