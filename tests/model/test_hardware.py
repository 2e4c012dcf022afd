import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cola.core.errors import UserError
from cola.model import hardware


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """choose_device changes the process for good: what other tests see is put back."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    filled = torch.utils.deterministic.fill_uninitialized_memory
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", filled)
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


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
    ("there", "chosen"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")]
)
def test_auto_takes_cuda_then_mps_then_cpu(machine, there, chosen):
    machine(*there)
    assert hardware.choose_device("auto") == torch.device(chosen)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(machine, name):
    machine()
    assert refusal(hardware.choose_device, name) == (
        f"params.yaml asks for device {name}, and this machine has none; set it to auto or cpu"
    )


def test_the_cpu_is_always_there(machine):
    machine("cuda", "mps")
    assert hardware.choose_device("cpu") == torch.device("cpu")


def test_the_device_is_made_to_repeat_its_results(machine):
    machine()
    torch.use_deterministic_algorithms(False)
    hardware.choose_device("auto")
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_seed_repeats_what_is_drawn():
    hardware.fix_seed(42)
    first = torch.rand(3)
    hardware.fix_seed(42)
    assert torch.equal(torch.rand(3), first)
    assert first.tolist() == pytest.approx([0.8823, 0.9150, 0.3829], abs=1e-4)  # PyTorch's, everywhere
    hardware.fix_seed(43)
    assert not torch.equal(torch.rand(3), first)


def test_a_device_has_a_name_that_people_know(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert hardware.describe(torch.device("cpu")) == "cpu, 2 threads"
    assert hardware.describe(torch.device("cuda")) == "NVIDIA H200"
    assert hardware.describe(torch.device("mps")) == "mps"


@pytest.fixture
def units(monkeypatch):
    """Gives this process a processor with the capabilities named, and no others."""
    return lambda *names: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True} | dict(names))


def test_auto_precision_is_bfloat16_where_the_processor_has_units_for_it(units):
    cpu = torch.device("cpu")
    units(("avx512_bf16", True))
    assert hardware.choose_precision("auto", cpu) == torch.bfloat16
    assert hardware.choose_precision("bfloat16", cpu) == torch.bfloat16
    assert hardware.choose_precision("float32", cpu) == torch.float32
    units(("avx512_bf16", False))
    assert hardware.choose_precision("auto", cpu) == torch.float32
    assert hardware.choose_precision("float32", cpu) == torch.float32


def test_bfloat16_is_refused_where_it_would_be_emulated(units):
    units()
    assert refusal(hardware.choose_precision, "bfloat16", torch.device("cpu")) == (
        "params.yaml asks for precision bfloat16, and this device has no units for it; set it to auto"
    )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_matrices_are_multiplied_in_the_precision_chosen(precision):
    with hardware.autocast(torch.device("cpu"), precision):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == precision


def test_workers_side_by_side_have_a_gpu_each(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom cola.model import hardware\n"
        "print(hardware.claim_gpu(3, Path(sys.argv[1])), flush=True)\ninput()"
    )
    command, root = [sys.executable, "-c", code, str(tmp_path)], Path(__file__).parents[2]
    workers = []
    for expected in (0, 1, 2):
        worker = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert int(worker.stdout.readline()) == expected
        workers.append(worker)
    workers[1].kill()
    workers[1].wait()
    assert hardware.claim_gpu(3, tmp_path) == 1  # what a killed one had is free again
    assert hardware.claim_gpu(3, tmp_path) in (0, 1, 2)  # all are taken: one is shared
    for worker in workers:
        worker.kill()
        worker.wait()


def test_each_process_of_a_training_has_a_gpu_of_its_own(machine, monkeypatch):
    machine("cuda")
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name, value in {"TORCHELASTIC_RUN_ID": "run", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    hardware.choose_device("auto")
    assert chosen == [2]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert refusal(hardware.choose_device, "auto") == "train.processes is more than this machine's GPUs: 3"


def test_the_most_memory_that_there_was_is_remembered():
    ones = torch.ones(2**28)  # 1 GiB
    del ones
    assert hardware.peak_memory(torch.device("cpu")) > 1
