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
    prepare_device,
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
def test_a_device_is_the_one_asked_for_and_auto_is_cuda_or_the_cpu(machine, accelerators, name, chosen):
    machine(*accelerators)
    if chosen:
        assert choose_device(name) == torch.device(chosen)
    else:
        line = f"params.yaml asks for device {name}, and this machine has none; set it to auto or cpu"
        assert refusal(choose_device, name) == line


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
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert describe_machine(torch.device("cuda")) == "NVIDIA H200"
    for threads, name in ((2, r"\S.*, 2 threads"), (1, r"\S.*, 1 thread")):
        torch.set_num_threads(threads)
        assert re.fullmatch(name, describe_machine(torch.device("cpu")))


F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize(
    ("device_type", "has_bfloat16", "capability", "expected"),  # of auto, float32, bfloat16 (None: refused), float16
    [
        ("cpu", True, None, (BF16, F32, BF16, F16)),
        ("cpu", False, None, (F32, F32, None, F16)),
        ("mps", False, None, (F32, F32, None, F16)),
        ("cuda", True, (8, 0), (BF16, F32, BF16, F16)),  # A100
        ("cuda", False, (7, 5), (F16, F32, None, F16)),  # T4
        ("cuda", False, (7, 0), (F16, F32, None, F16)),  # V100
        ("cuda", False, (6, 1), (F32, F32, None, F16)),  # P40
    ],
)
def test_auto_precision_is_what_the_device_has_units_for(monkeypatch, device_type, has_bfloat16, capability, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": has_bfloat16})
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    for name, precision in zip(("auto", "float32", "bfloat16", "float16"), expected, strict=True):
        if precision:
            assert choose_precision(name, torch.device(device_type)) == precision
        else:
            line = f"params.yaml asks for precision {name}, and this device has no units for it; set it to auto"
            assert refusal(choose_precision, name, torch.device(device_type)) == line


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


def test_gpus_that_cannot_be_claimed_are_shared_out_by_number(gpus, monkeypatch, tmp_path, capsys):
    have, chosen = gpus
    have("a", "b")
    for uuid in "ab":
        (tmp_path / f"gpu-{uuid}.lock").mkdir()  # as where another user's file is
    for rank in "01":
        monkeypatch.setenv("LOCAL_RANK", rank)
        prepare_device("auto")
    assert chosen == [0, 1]
    assert capsys.readouterr().err.count("warning: GPUs are not claimed, so trainings may share one: ") == 2
