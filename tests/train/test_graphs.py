"""Functions of tensors as CUDA graphs: their results, random numbers and state are those of the functions."""

import pytest
import torch

from cola.train.graphs import Recorded

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
CUDA = torch.device("cuda")


def test_a_function_is_recorded_once_for_each_shape_and_then_only_replayed():
    total, calls = torch.zeros((), device=CUDA), []

    def add(numbers, factor):
        calls.append(numbers.shape)
        total.add_((numbers * factor).sum())
        return (total,)

    recorded = Recorded(add, CUDA)
    results = []
    for length, factor in ((2, 1.0), (2, 1.0), (3, 1.0), (2, 10.0), (3, 1.0), (3, 100.0)):
        (result,) = recorded(torch.ones(length), torch.tensor(factor))
        results.append(result.item())
    assert results == [2, 4, 7, 27, 30, 330]
    assert calls == [(2,), (2,), (3,), (3,)]  # the first call of a shape, and its recording
    assert len(recorded.graphs) == 2


def test_random_numbers_are_those_of_the_function_and_move_its_state_on():
    recorded = Recorded(lambda numbers: (torch.nn.functional.dropout(numbers),), CUDA)
    ones = torch.ones(1000)
    torch.manual_seed(3)
    results = [recorded(ones)[0].clone() for _ in range(4)]
    state = torch.cuda.get_rng_state()
    torch.manual_seed(3)
    for result in results:
        assert torch.equal(result, torch.nn.functional.dropout(ones.to(CUDA)))
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert len({tuple(result.tolist()) for result in results}) == 4
