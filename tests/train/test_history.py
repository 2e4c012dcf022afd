import pytest
import torch

from cola.train import history
from cola.train.history import Epoch, LossScale, Step

STEPS = [Step(1, 0.7, 2e-5, 1.5), Step(2, 0.6, 1e-5, 0.5)]
EPOCHS = [
    Epoch(1, 0.65, 0.5, 0.75, 0.25, 3.0, 1.0, 20, 90, STEPS),
    Epoch(2, 0.5, 0.4, 0.8, 0.25, 2.0, 0.5, 10, 60, [Step(3, 0.5, 0.0, 2.0)]),
]


@pytest.mark.parametrize(
    ("outcomes", "expected"),  # whether each step's gradients overflowed
    [
        ([False, True, True, False], LossScale(16384, 1, 2)),
        ([False] * 2000, LossScale(131072, 0, 0)),
        ([False] * 1999 + [True] + [False] * 1999, LossScale(32768, 1999, 1)),
        ([False] * 1999 + [True] + [False] * 2000, LossScale(65536, 0, 1)),
    ],
    ids=lambda value: f"{len(value)} steps" if isinstance(value, list) else "",
)
def test_the_loss_scale_is_gradscalers(outcomes, expected):
    scale, scaler = LossScale(), torch.amp.GradScaler("cpu", init_scale=65536.0)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight])
    scaler.scale(torch.ones(1))  # creates the scale
    for overflow in outcomes:
        scale = scale.after(overflow)
        weight.grad = torch.full((1,), torch.inf if overflow else 1.0)
        scaler.step(optimizer)
        scaler.update()
    assert scale == expected
    assert scaler.get_scale() == expected.factor


def test_the_tables_have_a_trainings_record():
    assert history.tabulate_epochs(EPOCHS).to_dict("list") == {
        "epoch": [1, 2],
        "training_loss": [0.65, 0.5],
        "validation_loss": [0.5, 0.4],
        "validation_accuracy": [0.75, 0.8],
        "validation_mcc": [0.25, 0.25],
    }
    assert history.tabulate_steps(EPOCHS).to_dict("list") == {
        "step": [1, 2, 3],
        "loss": [0.7, 0.6, 0.5],
        "learning_rate": [2e-5, 1e-5, 0.0],
        "gradient_norm": [1.5, 0.5, 2.0],
    }
    assert history.compute_timings(EPOCHS) == {
        "training_seconds": 5.0,
        "validation_seconds": 1.5,
        "sentences_per_second": 30 / 5.0,
        "tokens_per_second": 150 / 5.0,
    }
    assert history.select_best(EPOCHS) is EPOCHS[0]
