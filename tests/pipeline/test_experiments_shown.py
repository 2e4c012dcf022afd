"""Tables of experiments fit a terminal, and pictures need no network."""

import copy
import json

import pytest
import yaml
from project import copy_project, outputs

WIDTH = 120
FOLDER = "/home/somebody/projects/encoders/trained-further-on-our-own-sentences/checkpoint-12000"
SETTINGS = {  # of four experiments
    "seed-7": {"seed": 7},
    "batch_size-16": {"train.batch_size": 16, "train.learning_rate": 3e-5},
    "epochs-3": {"train.epochs": 3},
    "folder": {"fetch.encoder": FOLDER},
}


@pytest.fixture
def tried(applied, run):
    """A project with the demo and four experiments, which are saved instead of trained: tables read no more."""
    params, test = (applied / name for name in ("params.yaml", "metrics/test.json"))
    settings, scores = yaml.safe_load(params.read_text()), json.loads(test.read_text())
    for number, (name, changes) in enumerate(SETTINGS.items()):
        changed = copy.deepcopy(settings)
        for key, value in changes.items():
            section, _, name_in_section = key.rpartition(".")
            (changed[section] if section else changed)[name_in_section] = value
        params.write_text(yaml.safe_dump(changed))
        test.write_text(json.dumps(scores | {"mcc": 0.1234567 * (number + 1)}))
        run(applied, "dvc", "exp", "save", "--name", name, "--include-untracked", "metrics")
    return applied


@pytest.mark.slow
def test_the_tables_of_experiments_fit_and_make_table_has_the_best_first(tried, run):
    table = run(tried, "make", "--silent", "table", COLUMNS="80")
    assert max(map(len, table.splitlines())) <= 80
    texts = " ".join(table.split())
    ends = [texts.index(text) for text in ("0.494", "0.370", "0.247", "0.123", "demo: fetch.corpus=")]
    assert ends == sorted(ends)
    for name, settings in SETTINGS.items():
        assert f"{name}: " in texts
        for key, value in settings.items():
            assert f"{key}={value}" in "".join(table.split()), "it may be folded, not cut"
    table = run(tried, "dvc", "exp", "show", "--drop", "metrics/reference|cola/", "--no-pager", COLUMNS=str(WIDTH))
    assert max(map(len, table.splitlines())) <= WIDTH
    for name in SETTINGS:
        assert f"[{name}]" in table


def test_a_fresh_clone_shows_the_references_in_a_table_that_fits(tmp_path, run):
    table = run(copy_project(tmp_path), "dvc", "metrics", "show", COLUMNS="100").splitlines()
    assert max(map(len, table)) <= 100
    rows = {line.split()[0]: line.split()[1:] for line in table if line.strip()}
    assert rows["Path"] == ["count", "mcc", "standard_deviation"]
    assert rows["metrics/reference/tutorial.json"] == ["-", "0.498", "-"]
    assert rows["metrics/reference/public_runs.json"] == ["16", "0.5437", "0.0165"]
    assert {"metrics/reference/all-mpnet-base-v2.json", "metrics/reference/all-MiniLM-L6-v2.json"} < rows.keys()


@pytest.mark.slow
def test_a_stage_succeeds_where_its_printing_fails(applied, run):
    before = outputs(applied)
    (applied / "metrics/reference/mine.json").write_text('{"mcc": 0.5, "runs": [{"mc')
    for stage in ("evaluate", "sample_predict"):
        environment = {"PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "2"}  # as in the run before
        printed = run(applied, "dvc", "repro", "--force", "--single-item", stage, **environment)
        assert ("Test MCC: " in printed) == (stage == "evaluate")
        assert ("metrics/reference/mine.json" in printed) == (stage == "evaluate")
    assert outputs(applied) == before


@pytest.mark.slow
def test_pictures_and_the_page_are_drawn_without_a_network(applied, run):
    run(applied, "python", "-m", "cola.report.plots_page")
    run(applied, "dvc", "plots", "show")
    page = (applied / "dvc_plots/index.html").read_text()
    assert 'src="http' not in page
    assert "window.vegaEmbed=" in page.replace(" ", "")
    assert page.count("vegaEmbed('#") == 7
