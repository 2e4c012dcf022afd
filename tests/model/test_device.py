import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from cola.core import paths
from cola.core.errors import UserError
from cola.model import device
from cola.model.device import (
    choose_device,
    choose_precision,
    choose_threads,
    claim_gpu,
    describe_machine,
    peak_memory,
    prepare_device,
    random_states,
    set_random_state,
)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """prepare_device changes the process for good: what other tests see is put back."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    filled = torch.utils.deterministic.fill_uninitialized_memory
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", filled)
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)


@pytest.fixture
def machine(monkeypatch):
    """Gives this process a machine with the accelerators named, and no others."""

    def have(*names):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in names)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in names)

    return have


def refusal(call, *arguments):
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize(
    ("accelerators", "chosen"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")]
)
def test_auto_takes_cuda_then_mps_then_cpu(machine, accelerators, chosen):
    machine(*accelerators)
    assert choose_device("auto") == torch.device(chosen)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_the_machine_lacks_is_refused(machine, name):
    machine()
    assert refusal(choose_device, name) == (
        f"params.yaml asks for device {name}, and this machine has none; set it to auto or cpu"
    )


def test_the_device_is_made_to_repeat_its_results(machine):
    machine()
    torch.use_deterministic_algorithms(False)
    prepare_device("auto")
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_threads_are_all_cores_or_what_is_asked_for_and_never_what_is_free(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(device, "cpu_count", lambda: 6)  # of a container's quota
    assert choose_threads() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # PyTorch read it as it loaded
    assert choose_threads() == 3


def test_a_device_has_a_name_that_people_know(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert re.fullmatch(r"\S.*, 2 threads", describe_machine(torch.device("cpu")))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert describe_machine(torch.device("cpu")).endswith(", 1 thread")
    assert describe_machine(torch.device("cuda")) == "NVIDIA H200"
    assert describe_machine(torch.device("mps")) == "mps"


@pytest.fixture
def units(monkeypatch):
    """Gives this process a processor with the capabilities named, and no others."""
    return lambda *names: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True} | dict(names))


def test_auto_precision_is_bfloat16_where_the_processor_has_units_for_it_and_it_is_refused_elsewhere(units):
    cpu = torch.device("cpu")
    units(("avx512_bf16", True))
    assert choose_precision("auto", cpu) == choose_precision("bfloat16", cpu) == torch.bfloat16
    assert choose_precision("float32", cpu) == torch.float32
    units(("avx512_bf16", False))
    assert choose_precision("auto", cpu) == choose_precision("float32", cpu) == torch.float32
    assert refusal(choose_precision, "bfloat16", cpu) == (
        "params.yaml asks for precision bfloat16, and this device has no units for it; set it to auto"
    )


@pytest.mark.slow
def test_workers_side_by_side_have_a_gpu_each(tmp_path):
    """Three processes see GPUs by different indices, as with CUDA_VISIBLE_DEVICES; a killed one's GPU is free again."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom cola.model.device import claim_gpu\n"
        "print(claim_gpu(sys.argv[2:], Path(sys.argv[1])), flush=True)\ninput()"
    )
    root, workers = Path(__file__).parents[2], []
    for visible, expected in ((["a", "b", "c"], 0), (["b", "a"], 0), (["b", "a", "c"], 2)):
        command = [sys.executable, "-c", code, str(tmp_path), *visible]
        workers.append(subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert int(workers[-1].stdout.readline()) == expected
    assert claim_gpu(["a", "b", "c"], tmp_path) is None
    workers[1].kill()
    workers[1].wait()
    assert claim_gpu(["a", "b", "c"], tmp_path) == 1
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.fixture
def gpus(machine, monkeypatch, tmp_path):
    """Gives this process a machine with GPUs of these UUIDs; returns the indices of those that were chosen."""

    def have(*uuids):
        machine("cuda")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuids[index]))
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        monkeypatch.setattr(paths, "SCRATCH", tmp_path)

    chosen = []
    return have, chosen


def test_each_process_of_a_training_has_a_gpu_that_nobody_else_has(gpus, monkeypatch, tmp_path):
    have, chosen = gpus
    have("a", "b", "c")
    with FileLock(tmp_path / "gpu-b.lock"):  # another worker's
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
        prepare_device("auto")
        prepare_device("auto")
        assert chosen == [0, 2]
        too_many = "train.processes is more than this machine's free GPUs; it has 3"
        assert refusal(prepare_device, "auto") == too_many
        monkeypatch.delenv("TORCHELASTIC_RUN_ID")
        prepare_device("auto")  # a worker of a queue shares one
    assert chosen[2] in (0, 1, 2)


@pytest.mark.parametrize("accelerator", ["cuda", "mps"])
def test_an_accelerators_random_state_is_saved_and_put_back(monkeypatch, accelerator):
    module, state, received = getattr(torch, accelerator), torch.arange(3, dtype=torch.uint8), []
    monkeypatch.setattr(module, "get_rng_state", lambda: state)
    monkeypatch.setattr(module, "set_rng_state", received.append)
    states = random_states(torch.device(accelerator))
    assert states.keys() == {"cpu", accelerator}
    set_random_state(accelerator, states[accelerator])
    assert received == [state]
    drawn = torch.rand(3)
    set_random_state("cpu", states["cpu"])
    assert torch.equal(torch.rand(3), drawn)


def test_the_most_memory_that_there_was_is_remembered():
    ones = torch.ones(2**28)  # 1 GiB
    del ones
    assert peak_memory(torch.device("cpu")) > 1
