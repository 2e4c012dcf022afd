"""What a user sees of experiments: in tables that fit a terminal of 120 columns, and in pictures."""

import json

import pytest
import yaml
from project import copy_of_the_project

WIDTH = 120
SETTINGS = {  # of three experiments
    "seed-7": {"seed": 7},
    "batch_size-16": {"batch_size": 16, "learning_rate": 3e-5},
    "epochs-3": {"epochs": 3},
}


@pytest.fixture
def tried(applied, run):
    """A project with the demo and three experiments, saved instead of trained: all that tables read is in them."""
    params, test = (applied / name for name in ("params.yaml", "metrics/test.json"))
    settings, scores = yaml.safe_load(params.read_text()), json.loads(test.read_text())
    for number, (name, changes) in enumerate(SETTINGS.items()):
        seed = changes.get("seed", settings["seed"])
        train = settings["train"] | {key: value for key, value in changes.items() if key != "seed"}
        params.write_text(yaml.safe_dump(settings | {"seed": seed, "train": train}))
        test.write_text(json.dumps(scores | {"mcc": 0.1234567 * (number + 1)}))
        run(applied, "dvc", "exp", "save", "--name", name, "--include-untracked", "metrics")
    return applied


def test_the_table_of_experiments_fits_with_the_best_first(tried, run):
    table = run(tried, "make", "--silent", "table", COLUMNS=str(WIDTH)).splitlines()
    assert max(map(len, table)) <= WIDTH
    rows = [line.split() for line in table if line.strip()]
    assert rows[0] == ["train."] * 3
    assert rows[1] == ["Experiment", "mcc", "validation_mcc", "seed", "epochs", "batch_size", "learning_rate"]
    assert [(row[0], row[1], *row[3:]) for row in rows[3:6]] == [
        ("epochs-3", "0.370", "42", "3", "32", "5e-05"),
        ("batch_size-16", "0.247", "42", "4", "16", "3e-05"),
        ("seed-7", "0.123", "7", "4", "32", "5e-05"),
    ]
    assert rows[6][0] == "demo"


def test_dvcs_own_table_fits(tried, run):
    table = run(tried, "dvc", "exp", "show", "--drop", "metrics/reference|cola/", "--no-pager", COLUMNS=str(WIDTH))
    assert max(map(len, table.splitlines())) <= WIDTH
    for name in SETTINGS:
        assert f"[{name}]" in table


def test_a_fresh_clone_shows_the_references_in_a_table_that_fits(tmp_path, run):
    table = run(copy_of_the_project(tmp_path), "dvc", "metrics", "show", COLUMNS="100").splitlines()
    assert max(map(len, table)) <= 100
    rows = {line.split()[0]: line.split()[1:] for line in table if line.strip()}
    assert rows["Path"] == ["count", "mcc", "standard_deviation"]
    assert rows["metrics/reference/tutorial.json"] == ["-", "0.498", "-"]
    assert rows["metrics/reference/public_runs.json"] == ["16", "0.5437", "0.0165"]
    assert {"metrics/reference/all-mpnet-base-v2.json", "metrics/reference/all-MiniLM-L6-v2.json"} < rows.keys()


def test_pictures_and_the_page_are_drawn_without_a_network(applied, run):
    run(applied, "dvc", "plots", "show")
    page = (applied / "dvc_plots/index.html").read_text()
    assert 'src="http' not in page
    assert "window.vegaEmbed=" in page.replace(" ", "")
    assert page.count("vegaEmbed('#") == 7
    run(applied, "make", "report")
    assert "<svg" in (applied / "report.html").read_text()
