"""benchmarks.gpu without a GPU: all that it does on a CPU, and its reckoning, by hand."""

import ast
import json
import re
import sys
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from processes import finished
from project import ROOT

from benchmarks import gpu, methods, profile
from cola.core.errors import UserError
from cola.model import families

NAMES = {"sklearn": "scikit-learn", "yaml": "pyyaml"}  # of packages that are imported by another name
OURS = ("benchmarks", "cola")
MINILM = "all-MiniLM-L6-v2"


@pytest.mark.slow
def test_it_does_on_a_cpu_what_it_does_on_a_gpu_without_dvc_and_mlflow():
    code = (
        "import runpy, sys; sys.modules |= dict(dvc=None, mlflow=None); "
        "runpy.run_module('benchmarks.gpu', run_name='__main__', alter_sys=True)"
    )
    before = sorted((ROOT / "benchmarks/results").iterdir())
    ended = finished([sys.executable, "-c", code, "sameness", MINILM])
    assert ended.returncode == 0, ended.stderr
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in ended.stdout.splitlines() if "│" in line]
    by_name = {row[0]: row[1:] for row in rows}
    assert {family for family in families.FAMILIES if "same" in by_name[family]} == set(families.FAMILIES)
    assert by_name["bert"][-2:] == ["same", "same"]  # run twice; killed and resumed
    assert all(float(by_name[family][1]) < 1e-5 for family in families.FAMILIES)
    timed = [row for row in rows if row[0] not in families.FAMILIES]
    assert [row[0] for row in timed] == [name for by_method in gpu.METHODS.values() for name in by_method]
    assert len(timed) == 9
    assert all(float(cell) > 0 for row in timed for cell in row[1:])
    assert "no GPU" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 100
    assert sorted((ROOT / "benchmarks/results").iterdir()) == before


def test_its_docstring_lists_the_packages_that_it_needs():
    """What it and all that it imports of this repository import; and accelerate, for transformers' Trainer."""
    found, waiting, seen = set(), {"benchmarks.gpu"}, set()
    while waiting:
        module = waiting.pop()
        seen.add(module)
        path = ROOT / f"{module.replace('.', '/')}.py"
        for node in ast.walk(ast.parse(path.read_text())) if path.exists() else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found |= {name.partition(".")[0] for name in names}
            waiting |= {name for name in names if name.startswith(OURS)} - seen
    packages = {NAMES.get(name, name) for name in found - sys.stdlib_module_names - set(OURS)} | {"accelerate"}
    assert set(re.search(r"are enough: ([^.]*)", gpu.__doc__)[1].replace("\n", " ").split(", ")) == packages
    assert len(packages) > 10


def test_what_is_not_the_same_is_said():
    good = {"float32": (0.0, 9e-5), "bfloat16": (0.1, 0.019), "autocast": (0.1, 0.01), "two runs": True}
    assert gpu.differences({"bert": good, "mpnet": {"float32": (0.0, 1e-6), "killed and resumed": True}}) == []
    assert gpu.differences({"bert": good | {"float32": (0.0, 2e-4)}}) == ["bert: float32 is 2.0e-04 from the CPU's"]
    assert gpu.differences({"bert": good | {"float32": (0.0, float("nan"))}}) == ["bert: float32 is nan from the CPU's"]
    assert gpu.differences({"bert": good | {"bfloat16": (0.0, 0.021)}}) == [
        "bert: bfloat16 is more than 2 times as far off as autocast"
    ]
    assert gpu.differences({"bert": good | {"two runs": False}, "mpnet": good | {"killed and resumed": False}}) == [
        "bert: two runs: not the same bytes",
        "mpnet: killed and resumed: not the same bytes",
    ]
    message = "index_add_cuda_ does not have a deterministic implementation"
    assert gpu.differences({"bert": {"fault": message}}) == [f"bert: {message}"]


def test_a_method_that_fails_costs_no_other_its_figures(monkeypatch, capsys):
    @contextmanager
    def fails(model):
        raise RuntimeError("no compiler\nand more")
        yield

    seconds = {"fast": 0.02, "bert-cola": 0.04}
    chosen = {"training": dict.fromkeys([*seconds, "fails"], fails), "prediction": {"bert-cola": fails}}
    monkeypatch.setattr(gpu, "METHODS", chosen)
    monkeypatch.setattr(gpu, "prepare", lambda: torch.device("cpu"))
    monkeypatch.setattr(gpu, "WARM_UP", 2)
    for name, each in seconds.items():
        chosen["training"][name] = contextmanager(lambda _, each=each: iter([lambda batches: [each] * len(batches)]))
    found = gpu.speeds(MINILM)
    assert found["training"]["fails"] == found["prediction"]["bert-cola"] == {"fault": "no compiler"}
    assert found["training"]["fast"]["steps_per_second"] == 50
    assert found["training"]["fast"]["sentences_per_second"] == 1600
    assert found["training"]["fast"]["ratio"] == 0.5
    assert "launches" not in found
    gpu.show_speeds(MINILM, found)
    assert re.search(r"fails\s+│\s+failed", capsys.readouterr().out)


def test_each_part_has_its_place_in_the_file(tmp_path):
    path = tmp_path / "nvidia-h200.json"
    gpu.save(path, "NVIDIA H200", "sameness", {"sameness": {"bert": {"two runs": True}}})
    gpu.save(path, "NVIDIA H200", "one", {"training": {"bert-cola": {"seconds": 2}}, "launches": {}})
    gpu.save(path, "NVIDIA H200", "other", {"training": {"bert-cola": {"seconds": 3}}})
    gpu.save(path, "NVIDIA H200", "one", {"training": {"bert-cola": {"seconds": 1}}})
    results = json.loads(path.read_text())
    assert results["machine"] == "NVIDIA H200"
    assert results["torch"] == torch.__version__
    assert results["prediction"] == {}
    assert results["sameness"] == {"bert": {"two runs": True}}
    assert results["training"] == {"one": {"bert-cola": {"seconds": 1}}, "other": {"bert-cola": {"seconds": 3}}}


def test_an_unknown_part_is_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "argv", ["gpu", "sameness", "bert-huge"])
    with pytest.raises(UserError, match="bert-huge is no part: sameness, bert-base-uncased, "):
        gpu.main()


def test_a_kernels_time_counts_once():
    kind = profile.DeviceType
    averages = [
        SimpleNamespace(
            key=key,
            device_type=device_type,
            is_user_annotation=annotation,
            self_device_time_total=on_a_gpu,
            self_cpu_time_total=5.0,
            count=2,
        )
        for key, device_type, annotation, on_a_gpu in [
            ("aten::mm", kind.CPU, False, 30.0),
            ("a kernel", kind.CUDA, False, 10.0),
            ("another kernel", kind.CUDA, False, 20.0),
            ("Optimizer.step", kind.CUDA, True, 9.0),
        ]
    ]
    kernels = [("another kernel", 20.0, 2), ("a kernel", 10.0, 2)]
    assert profile.operations(averages, torch.device("cuda")) == kernels
    assert profile.operations(averages[:1], torch.device("cpu")) == [("aten::mm", 5.0, 2)]


def test_what_a_gpu_does_not_work_it_waits(monkeypatch):
    """Four steps of 5 ms each; 24 kernels, which the GPU works on for 12 ms."""
    ran = [("one", 9e3, 20), ("other", 3e3, 4)]  # microseconds
    monkeypatch.setattr(gpu, "STEPS", 4)
    monkeypatch.setattr(gpu, "built", lambda shape: shape)
    monkeypatch.setattr(gpu, "prepare", lambda: torch.device("cuda"))
    monkeypatch.setattr(gpu.methods, "train_fast", lambda _: nullcontext(lambda batches: [0.005] * len(batches)))
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: nullcontext(SimpleNamespace(key_averages=list)))
    monkeypatch.setattr(profile, "operations", lambda *_: ran)
    assert gpu.launches(MINILM) == {
        "seconds": 0.005,
        "kernel_seconds": pytest.approx(0.003),
        "kernels": 6,
        "waiting": pytest.approx(0.4),
    }
    ran.clear()
    with pytest.raises(RuntimeError, match="the profiler saw no kernel"):
        gpu.launches(MINILM)


def test_a_gpus_clock_waits_once_for_the_gpu(monkeypatch):
    times, waited = iter([10.0, 12.0, 15.0]), []  # milliseconds

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.time = next(times)

        def elapsed_time(self, other):
            assert waited == [True]
            return other.time - self.time

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))
    clock = methods.Clock(torch.device("cuda"))
    for _ in range(3):
        clock.mark()
    assert waited == []
    assert clock.seconds() == pytest.approx([0.002, 0.003])
    counted = iter([1.0, 3.0, 3.5])
    monkeypatch.setattr(methods.time, "perf_counter", lambda: next(counted))
    clock = methods.Clock(torch.device("cpu"))
    for _ in range(3):
        clock.mark()
    assert clock.seconds() == [2.0, 0.5]
