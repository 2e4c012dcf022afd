"""The table of experiments, from what DVC says of them."""

from cola.experiments import table

SETTINGS = ["seed", "fetch.encoder", "train.learning_rate"]


def experiment(name, mcc, seed=42.0, learning_rate=2e-5, **more):
    settings = {"seed": seed, "fetch.encoder": "google-bert/bert-base-uncased", "train.learning_rate": learning_rate}
    return {"Experiment": name, "mcc": mcc, "validation_mcc": mcc, **settings, **more}


def test_the_best_comes_first_with_only_the_settings_that_differ():
    found = table.rows(
        [
            experiment(None, 0.9, seed=1.0),  # the commit itself
            experiment("low", 0.25),
            experiment("high", 0.51, learning_rate=3e-5, validation_mcc=0.5678),
        ],
        SETTINGS,
    )
    assert found == [
        {"Experiment": "high", "mcc": "0.510", "validation_mcc": "0.568", "train.learning_rate": "3e-05"},
        {"Experiment": "low", "mcc": "0.250", "validation_mcc": "0.250", "train.learning_rate": "2e-05"},
    ]


def test_what_has_no_result_comes_last():
    queued = {name: value for name, value in experiment("queued", 0.0, seed=7.0).items() if "mcc" not in name}
    found = table.rows([queued, experiment("failed", "!"), experiment("worse", -0.1)], SETTINGS)
    assert [(row["Experiment"], row["mcc"], row["seed"]) for row in found] == [
        ("worse", "-0.100", "42"),
        ("queued", "-", "7"),
        ("failed", "-", "42"),
    ]


def test_without_experiments_there_are_no_rows():
    assert table.rows([experiment(None, 0.9)], SETTINGS) == []
