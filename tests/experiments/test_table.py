"""The table of experiments that have no result. (Those that have one: test_experiments_shown.py.)"""

from cola.experiments import table


def experiment(name, mcc, seed=42.0):
    return {
        "Experiment": name,
        "metrics/test.json:mcc": mcc,
        "validation_mcc": mcc,
        "seed": seed,
        "train.learning_rate": 2e-5,
    }


def test_what_has_no_result_comes_last():
    queued = {name: value for name, value in experiment("queued", 0.0, seed=7.0).items() if "mcc" not in name}
    found = table.rows([queued, experiment("failed", "!"), experiment("worse", -0.1)], ["seed", "train.learning_rate"])
    assert [(row["Experiment"], row["mcc"], row["seed"]) for row in found] == [
        ("worse", "-0.100", "42"),
        ("queued", "-", "7"),
        ("failed", "-", "42"),
    ]


def test_without_experiments_there_are_no_rows():
    assert table.rows([experiment(None, 0.9)], ["seed"]) == []


def test_a_setting_is_shown_as_it_is(monkeypatch, capsys):
    """A folder's name may look like the markup of the library that draws the table."""
    folders = ["corpora/[neg]", "corpora/[/neg]"]
    experiments = [experiment(f"run-{number}", 0.5) | {"fetch.corpus": name} for number, name in enumerate(folders)]
    monkeypatch.setattr("dvc.api.exp_show", lambda: experiments)
    monkeypatch.setattr(table.params, "load", lambda _: None)
    monkeypatch.setattr(table.params, "flatten", lambda _: {"fetch.corpus": None})
    monkeypatch.setenv("COLUMNS", "80")
    table.main()
    printed = capsys.readouterr().out
    assert [name for name in folders if name not in printed] == []
