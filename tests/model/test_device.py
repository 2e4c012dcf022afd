import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from project import ROOT

from cola.core import paths
from cola.core.errors import UserError
from cola.model import device

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


@pytest.fixture(autouse=True)
def _restore_process(monkeypatch):
    """Undo what prepare_device changes in this process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    filled = torch.utils.deterministic.fill_uninitialized_memory
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", filled)
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)


@pytest.fixture
def give_accelerators(monkeypatch):
    """A function that gives this machine the named accelerators, and no others."""

    def give(*names):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in names)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in names)

    return give


@pytest.mark.parametrize(
    ("accelerators", "name", "chosen"),
    [
        ((), "auto", "cpu"),
        (("mps",), "auto", "cpu"),  # mps does not promise the same bytes twice
        (("cuda", "mps"), "auto", "cuda"),
        (("cuda", "mps"), "cpu", "cpu"),
        (("cuda", "mps"), "mps", "mps"),
        (("mps",), "cuda", None),
        (("cuda",), "mps", None),
    ],
)
def test_auto_is_cuda_or_the_cpu_and_an_absent_device_is_refused(give_accelerators, accelerators, name, chosen):
    give_accelerators(*accelerators)
    if chosen:
        assert device.choose_device(name) == torch.device(chosen)
    else:
        with pytest.raises(UserError, match=f"asks for device {name}, and this machine has none; or set it to auto"):
            device.choose_device(name)


def test_a_gpu_that_pytorch_cannot_use_is_named(give_accelerators, monkeypatch, tmp_path, capsys):
    give_accelerators()
    monkeypatch.setattr(device, "DRIVER", tmp_path)
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    fault = "PyTorch 2.13.0+cpu cannot use this machine's NVIDIA GPU: install its build for the driver"
    with pytest.raises(UserError, match=re.escape(f"asks for device cuda, and {fault}; or set it to auto or cpu")):
        device.choose_device("cuda")
    with pytest.raises(UserError, match="asks for device mps, and this machine has none"):
        device.choose_device("mps")
    assert device.choose_device("auto") == torch.device("cpu")
    assert capsys.readouterr().err == f"note: {fault}; without it the CPU computes\n"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the user's wish
    assert device.choose_device("auto") == torch.device("cpu")
    assert capsys.readouterr().err == ""


def test_the_device_is_made_to_repeat_its_results(give_accelerators):
    give_accelerators()
    torch.use_deterministic_algorithms(False)
    device.prepare_device("auto")
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_threads_are_the_cores_or_omp_num_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(device, "cpu_count", lambda: 6)  # a container's quota
    assert device.choose_threads() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # PyTorch reads the variable as it loads
    assert device.choose_threads() == 3


def test_a_machine_is_described_by_its_gpu_or_its_cpu_and_threads(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert device.describe_machine(torch.device("cuda")) == "NVIDIA H200"
    for threads, name in ((2, r"\S.*, 2 threads"), (1, r"\S.*, 1 thread")):
        torch.set_num_threads(threads)
        assert re.fullmatch(name, device.describe_machine(torch.device("cpu")))


@pytest.mark.parametrize(
    ("device_type", "has_bfloat16", "capability", "auto"),
    [
        ("cpu", True, None, BF16),
        ("cpu", False, None, F32),
        ("mps", False, None, F32),
        ("cuda", True, (8, 0), BF16),  # A100
        ("cuda", False, (7, 5), F16),  # T4
        ("cuda", False, (7, 0), F16),  # V100
        ("cuda", False, (6, 1), F32),  # P40
    ],
)
def test_auto_is_the_best_precision_that_the_device_has_units_for(
    monkeypatch, device_type, has_bfloat16, capability, auto
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": has_bfloat16})
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    chosen = torch.device(device_type)
    assert device.choose_precision("auto", chosen) == auto
    assert device.choose_precision("float32", chosen) == F32
    assert device.choose_precision("float16", chosen) == F16
    if has_bfloat16:
        assert device.choose_precision("bfloat16", chosen) == BF16
    else:
        with pytest.raises(UserError, match="asks for precision bfloat16, and this device has no units for it; set"):
            device.choose_precision("bfloat16", chosen)


@pytest.mark.slow
def test_side_by_side_workers_claim_a_gpu_each(tmp_path):
    """Three processes see GPUs by different indices, as with CUDA_VISIBLE_DEVICES. A killed worker frees its GPU."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom cola.model.device import claim_gpu\n"
        "print(claim_gpu(sys.argv[2:], Path(sys.argv[1])), flush=True)\ninput()"
    )
    workers = []
    for visible, expected in ((["a", "b", "c"], 0), (["b", "a"], 0), (["b", "a", "c"], 2)):
        command = [sys.executable, "-c", code, str(tmp_path), *visible]
        workers.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert int(workers[-1].stdout.readline()) == expected
    assert device.claim_gpu(["a", "b", "c"], tmp_path) is None
    workers[1].kill()
    workers[1].wait()
    assert device.claim_gpu(["a", "b", "c"], tmp_path) == 1
    for worker in workers:
        worker.kill()
        worker.wait()


@pytest.fixture
def chosen_gpus(give_accelerators, monkeypatch, tmp_path):
    """The indices of the GPUs that prepare_device chooses on a machine with the GPUs a, b and c."""
    chosen = []
    give_accelerators("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="abc"[index]))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(paths, "SCRATCH", tmp_path)
    return chosen


def test_a_trainings_processes_never_share_a_gpu_but_workers_may(chosen_gpus, monkeypatch, tmp_path):
    with FileLock(tmp_path / "gpu-b.lock"):  # another worker's claim
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
        device.prepare_device("auto")
        device.prepare_device("auto")
        assert chosen_gpus == [0, 2]
        with pytest.raises(UserError, match="more than this machine's free GPUs; it has 3"):
            device.prepare_device("auto")
        monkeypatch.delenv("TORCHELASTIC_RUN_ID")
        device.prepare_device("auto")
    assert chosen_gpus[2] in (0, 1, 2)


def test_without_locks_a_trainings_processes_take_gpus_by_rank(chosen_gpus, monkeypatch, tmp_path, capsys):
    for uuid in "abc":
        (tmp_path / f"gpu-{uuid}.lock").mkdir()  # opening it fails, as another user's file does
    for rank in "01":
        monkeypatch.setenv("LOCAL_RANK", rank)
        device.prepare_device("auto")
    assert chosen_gpus == [0, 1]
    assert capsys.readouterr().err.count("warning: GPUs are not claimed, so trainings may share one: ") == 2
