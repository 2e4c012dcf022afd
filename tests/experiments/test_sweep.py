import pytest

from cola.core.errors import UserError
from cola.experiments import sweep


def test_every_combination_has_a_name():
    assert sweep.combinations(["train.epochs=2,3", "train.learning_rate=5.0e-5", "seed=1,7"]) == {
        "epochs-2-learning_rate-5.0e-5-seed-1": ["train.epochs=2", "train.learning_rate=5.0e-5", "seed=1"],
        "epochs-2-learning_rate-5.0e-5-seed-7": ["train.epochs=2", "train.learning_rate=5.0e-5", "seed=7"],
        "epochs-3-learning_rate-5.0e-5-seed-1": ["train.epochs=3", "train.learning_rate=5.0e-5", "seed=1"],
        "epochs-3-learning_rate-5.0e-5-seed-7": ["train.epochs=3", "train.learning_rate=5.0e-5", "seed=7"],
    }


@pytest.mark.parametrize("settings", [[], ["seed"], ["seed="], ["=1"], ["seed=1,,2"]])
def test_what_is_no_setting_is_said(settings):
    with pytest.raises(UserError, match="setting"):
        sweep.combinations(settings)
