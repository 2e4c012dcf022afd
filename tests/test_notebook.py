"""tutorial.ipynb runs on any result, and is committed with the outputs of a run on the demo's result."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import run_notebook
from nbclient.exceptions import CellExecutionError
from project import MINILM, ROOT, check_contracts, copy_project

from cola.report.workspace import NO_RESULT

COMMITTED = nbformat.read(ROOT / run_notebook.NAME, as_version=4)
CORPUS_CELLS = ["splits", "examples"]  # ids of cells whose outputs depend on the corpus only
ENCODER_CELLS = ["pieces", "ids", "pad", "places", "load", "new-weights", "batch"]  # on the encoder, too
# Python runs this file, sitecustomize.py, first.
NO_NETWORK = """
import sys

def hook(event, arguments):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        host = arguments[0] if event == "socket.getaddrinfo" else arguments[1][0]
        if host not in ("127.0.0.1", "localhost"):
            raise OSError(f"the network was asked for {host}")

sys.addaudithook(hook)
"""


def list_code_cells(notebook):
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def shown(cell):
    """Return a cell's printed and shown text, without pictures."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(parts)


def steps(cell):
    """Return the rows of a table of steps: [loss, gradient norm]."""
    (output,) = cell.outputs
    rows = output.data["text/html"].split("<tr>")[1:]
    return [[float(value) for value in re.findall(r"<td>(.*?)</td>", row)[:2]] for row in rows]


@pytest.fixture
def run_offline(tmp_path):
    """Run the notebook on the result in a folder, without a network, in under two minutes; return its code cells."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(NO_NETWORK)

    def run_offline(folder, environment):
        offline = environment | {"PYTHONPATH": str(tmp_path / "hook")}
        canary = "import urllib.request; urllib.request.urlopen('http://example.org')"
        answer = subprocess.run(
            [sys.executable, "-c", canary], env=offline, capture_output=True, text=True, check=False
        )
        assert "the network was asked for example.org" in answer.stderr
        started = time.monotonic()
        cells = list_code_cells(run_notebook.run(folder, env=offline))
        assert time.monotonic() - started < 120
        assert [cell.source for cell in cells.values()] == [cell.source for cell in list_code_cells(COMMITTED).values()]
        check_outputs(cells)
        return cells

    return run_offline


def check_outputs(cells):
    """Every cell ran, in order, and shows something, without errors, warnings, times or paths of the machine."""
    assert [cell.execution_count for cell in cells.values()] == list(range(1, len(cells) + 1))
    for name, cell in cells.items():
        assert bool(cell.outputs) == (name != "colab"), f"{name} shows nothing, or more than it should"
        assert {output.output_type for output in cell.outputs} <= {"stream", "execute_result", "display_data"}, name
        assert {output.get("execution_count") for output in cell.outputs} <= {None, cell.execution_count}, name
        assert {output.get("name") for output in cell.outputs} <= {None, "stdout"}, f"{name} warns: {shown(cell)}"
        assert "execution" not in cell.metadata, f"{name} has times: use python -m tests.run_notebook"
        assert re.search(r"/(home|root|tmp|Users|work|opt|usr)/", json.dumps(cell.outputs)) is None, name
    shown_data = [output.get("data", {}) for cell in cells.values() for output in cell.outputs]
    pictures = [data["image/png"] for data in shown_data if "image/png" in data]
    assert len(pictures) == 4
    assert sum(map(len, pictures)) < 300_000


def check_steps(cells):
    """The pipeline's steps repeat, and are equal to the steps that the notebook computes by hand."""
    recorded, again, _ = steps(cells["pipeline-step"])
    assert again == pytest.approx(recorded, rel=0.01)  # the number of threads differs between the test and the run
    for name in ("plain", "without-dropout"):
        pipeline, by_hand = steps(cells[name])
        assert by_hand[0] == pytest.approx(pipeline[0], rel=1e-5), name
        assert by_hand[1] == pytest.approx(pipeline[1], rel=1e-3), name  # a sum over all weights, in float32


def check_committed(cells, names):
    """These cells show the committed outputs."""
    for name in names:
        expected = shown(list_code_cells(COMMITTED)[name])
        assert shown(cells[name]) == expected, f"{name}: run the notebook again, as CONTRIBUTING.md says"


def test_its_committed_outputs_are_those_of_the_demo():
    cells = list_code_cells(COMMITTED)
    assert len(cells) > 20
    check_outputs(cells)
    check_steps(cells)
    assert f"corpus:  minimal_pairs\nencoder: {MINILM}\n" in shown(cells["result"])
    test = json.loads((ROOT / run_notebook.DEMO / "test.json").read_text())
    test_mcc = re.search(r"^test MCC: +(\S+)$", shown(cells["interval"]), re.MULTILINE)[1]
    assert test_mcc == f"{test['mcc']:.3f}"
    assert COMMITTED.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@pytest.mark.parametrize("elsewhere", [False, True])
def test_without_a_result_or_in_another_folder_one_line_names_the_remedy(tmp_path, environment, elsewhere):
    folder = tmp_path if elsewhere else copy_project(tmp_path / "project")
    shutil.copy(ROOT / run_notebook.NAME, folder)
    with pytest.raises(CellExecutionError) as ended:
        run_notebook.run(folder, env=environment)
    lost = "No module named 'cola': start Jupyter in the project's folder, with the Python of .venv"
    assert ended.value.evalue == (lost if elsewhere else NO_RESULT)
    assert "Traceback" not in ended.value.traceback


@pytest.mark.slow
def test_it_runs_on_the_demos_result_whose_bytes_are_the_same_twice(tmp_path, run_offline, environment, run):
    project = copy_project(tmp_path / "project", train__max_steps=20)
    printed = run(project, "make", "demo", OMP_NUM_THREADS="2")
    assert f"Training: minimal_pairs, {MINILM}" in printed
    run(project, "dvc", "exp", "apply", "demo")
    check_contracts(project, training=5_400, validation=600, epochs=1, steps_per_epoch=20)
    cells = run_offline(project, environment)
    check_steps(cells)
    check_committed(cells, CORPUS_CELLS + ENCODER_CELLS)
    printed = run(project, "make", "verify", OMP_NUM_THREADS="2")
    assert "files are the same twice, byte for byte" in printed
    assert "Running stage 'train'" in printed


@pytest.mark.slow
def test_on_colab_the_first_cell_makes_the_result(tmp_path, tiny_encoder):
    """Colab has a bare folder, uv on the path, no display, no git identity, and no environment of this project."""
    uv = Path(sys.executable).with_name("uv")
    origin, bare = tmp_path / "origin", tmp_path / "bare"
    copy_project(origin, train__max_steps=20)
    notebook = nbformat.read(ROOT / run_notebook.NAME, as_version=4)
    cell = list_code_cells(notebook)["colab"]
    demo = f"make demo ENCODER={tiny_encoder} && .venv/bin/dvc exp apply demo"
    for old, new in (("https://github.com/OWNER/bert-cola", str(origin)), ("make repro", demo)):
        assert cell.source.count(f'= "{old}"') == 1
        cell.source = cell.source.replace(f'= "{old}"', f'= "{new}"')
    for folder in ("bare", "home", "bin"):
        (tmp_path / folder).mkdir()
    nbformat.write(notebook, bare / run_notebook.NAME)
    (tmp_path / "bin/uv").symlink_to(uv)
    cache = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_")} | {
        "COLAB_RELEASE_TAG": "rehearsal",
        "HOME": str(tmp_path / "home"),
        "PATH": f"{tmp_path}/bin:/usr/local/bin:/usr/bin:/bin",
        "UV_CACHE_DIR": cache,
    }
    cells = list_code_cells(run_notebook.run(bare, env=environment))
    assert "setting up .venv" in shown(cells["colab"])
    assert "tiny-bert" in shown(cells["result"])
    check_steps(cells)
    assert (tmp_path / "home/bert-cola/.venv/ready").exists()
