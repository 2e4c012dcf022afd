"""dvc.yaml and the code agree, and imports run one way."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest
from processes import run_to_end
from project import ROOT, read_pipeline_and_halves

from cola.core import params, paths

PIPELINE, HALVES = read_pipeline_and_halves()
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
LIBRARY = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "cola").rglob("*.py"))
# The rooms of cola/, with the rooms that they may import.
ROOMS = {
    "core": set(),
    "fetch": {"core"},
    "data": {"core"},
    "model": {"core", "data"},
    "train": {"core", "data", "model"},
    "evaluate": {"core", "data", "model"},
    "report": {"core", "data", "model", "train", "evaluate"},
    "experiments": {"core", "data", "model", "train", "evaluate", "report"},
}
SHOW_ONLY = {"report", "experiments"}  # rooms that write no output of a stage
WRITERS = {"write_text", "write_json", "write_csv", "atomic_file", "atomic_folder"}  # of core.files


@cache
def parse(file):
    return ast.parse((ROOT / file).read_text())


def find_room(file):
    """cola/data/corpus.py -> data; None for a file outside the rooms."""
    parts = Path(file).parts
    return parts[1] if parts[0] == "cola" and len(parts) == 3 else None


@cache
def list_imported_modules(file):
    """Return every module that a file imports, anywhere in the file: `from a import b` imports a and a.b."""
    modules = set()
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def list_packages(file):
    """Return the first name of every imported module: cola.data.corpus -> cola."""
    return {module.split(".")[0] for module in list_imported_modules(file)}


@cache
def list_imported_files(file):
    """Return the files of cola/ that a file imports, and cola/__init__.py, which Python runs before them."""
    files = {module.replace(".", "/") + ".py" for module in list_imported_modules(file)} & set(LIBRARY)
    return (files | {"cola/__init__.py"}) - {file}


def close_imports(file, without=frozenset()):
    """Return the files that a file imports, directly or not; the rooms in `without` are left out."""
    files, waiting = set(), {file}
    while waiting:
        files |= waiting
        waiting = set().union(*map(list_imported_files, waiting)) - files
        waiting = {source for source in waiting if find_room(source) not in without}
    return files


def find_path(node):
    """Return the path that an expression names, paths.RAW or paths.RAW / "x"; None for any other expression."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "paths":
        return getattr(paths, node.attr)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and find_path(node.left):
        return find_path(node.left) / node.right.value if isinstance(node.right, ast.Constant) else find_path(node.left)
    return None


def list_written_paths(file):
    """Return the paths that a stage passes to a function of core.files that writes."""
    calls = [node for node in ast.walk(parse(file)) if isinstance(node, ast.Call) and node.args]
    return {
        find_path(call.args[0]).as_posix()
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in WRITERS and find_path(call.args[0])
    }


def list_named_paths(file):
    """Return the paths that a stage names, in their longest form: paths.RAW / "x", not paths.RAW within it."""
    names, inner = set(), set()
    for node in ast.walk(parse(file)):
        if find_path(node) and node not in inner:
            names.add(find_path(node).as_posix())
            inner |= set(ast.walk(node))
    return names


def list_settings_read(file):
    """Return the sections of params.yaml that a stage reads: settings.train, or settings.seed."""
    return {
        node.attr
        for node in ast.walk(parse(file))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "settings"
    }


def list_outs(stage):
    declared = [out for kind in ("outs", "metrics", "plots") for out in PIPELINE[stage].get(kind, [])]
    return {next(iter(out)) if isinstance(out, dict) else out for out in declared}


def list_code_deps(stage):
    return {dep for dep in PIPELINE[stage]["deps"] if dep.partition("/")[0] in ("cola", "stages")}


def covers(dep, file):
    return file == dep or file.startswith(f"{dep}/")


def test_the_pipeline_has_five_stages_that_run_as_modules_and_fits_a_screen():
    assert STAGES == sorted(PIPELINE) == ["evaluate", "fetch", "sample_predict", "tokenize", "train"]
    commands = {stage: PIPELINE[stage]["cmd"] for stage in STAGES}
    assert commands == {stage: f"exec sh stages/run.sh {stage}" for stage in STAGES}
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 130


def test_the_halves_of_fetch_depend_on_their_settings_only():
    command = "exec sh stages/run.sh fetch"
    assert {half: (stage["cmd"], stage["outs"], stage["params"]) for half, stage in HALVES.items()} == {
        "corpus": (f"{command} corpus", ["data/raw"], ["fetch.corpus", "fetch.corpus"]),
        "encoder": (f"{command} encoder", ["models/pretrained"], ["fetch.encoder", "fetch.encoder_revision"]),
    }
    assert set(HALVES["corpus"]["deps"]) - set(HALVES["encoder"]["deps"]) == {"corpora"}
    assert set(params.Fetch.model_fields) == {"corpus", "encoder", "encoder_revision"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_determines_its_outputs_only(stage):
    code, deps = close_imports(f"stages/{stage}.py", without=SHOW_ONLY), list_code_deps(stage)
    assert len(code) > 8
    assert [file for file in code if not any(covers(dep, file) for dep in deps)] == []
    assert [dep for dep in deps if not any(covers(dep, file) for file in code)] == []
    allowed = {f"stages/{stage}.py", "cola/__init__.py", *(f"cola/{room}" for room in ROOMS.keys() - SHOW_ONLY)}
    assert deps <= allowed


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_settings_that_it_reads_and_the_outputs_that_it_writes(stage):
    assert set(PIPELINE[stage]["params"]) == list_settings_read(f"stages/{stage}.py") <= set(params.Params.model_fields)
    assert list_outs(stage) == list_written_paths(f"stages/{stage}.py") != set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_files_that_it_reads(stage):
    data = set(PIPELINE[stage]["deps"]) - list_code_deps(stage)
    # train hashes the model that it wrote
    results = list_outs(stage) | {f"{out}/model.safetensors" for out in list_outs(stage)}
    read = list_named_paths(f"stages/{stage}.py") - results - {"params.yaml"}
    for path in read:  # a declared folder covers its files; train names the folder of its declared tables
        assert any(covers(dep, path) or covers(path, dep) for dep in data), f"{stage} reads {path}"
    for dep in data - {paths.CORPORA.as_posix()}:  # cola/fetch/custom.py reads it
        assert any(covers(dep, path) for path in read), f"{stage} does not read {dep}"
    assert data


@pytest.mark.slow
def test_importing_a_module_changes_nothing_for_the_process(tmp_path):
    files = [path for folder in ("cola", "stages", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    assert len(modules) > 60
    code = (
        "import gc, importlib, multiprocessing, os, threading, torch\nbefore = dict(os.environ)\n"
        f"for module in {modules}: importlib.import_module(module)\n"
        "changed = [name for name in os.environ if os.environ[name] != before.get(name)]\n"
        "print(gc.isenabled(), torch.are_deterministic_algorithms_enabled(), multiprocessing.active_children(), "
        "threading.active_count(), os.listdir(), [name for name in changed if not name.startswith('MLFLOW_')])"
    )
    # cola/__init__.py, scikit-learn and PyTorch set these variables by import where they are not set.
    defaults = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "THP_MEM_ALLOC_ENABLE": "0"}
    defaults |= {"KMP_INIT_AT_FORK": "FALSE", "KMP_DUPLICATE_LIB_OK": "True", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    ended = run_to_end([sys.executable, "-c", code], tmp_path, DVC_STAGE="train", DVC_PID="1", **defaults)
    assert ended.stdout == "True False [] 1 [] []\n", ended.stderr


def test_a_room_imports_only_the_rooms_below_it():
    assert {find_room(file) for file in LIBRARY} == {*ROOMS, None}
    assert [file for file in LIBRARY if find_room(file) is None] == ["cola/__init__.py", "cola/predict.py"]
    for file in LIBRARY:
        rooms = {find_room(source) for source in list_imported_files(file)} - {None, find_room(file)}
        assert rooms <= ROOMS.get(find_room(file), rooms), f"{file} imports from {rooms}"
        assert not {"stages", "benchmarks", "tests"} & list_packages(file), file
    assert [stage for stage in STAGES if "stages" in list_packages(f"stages/{stage}.py")] == []


def test_only_the_record_in_mlflow_imports_mlflow():
    users = [file for file in LIBRARY if "mlflow" in list_packages(file)]
    assert users == ["cola/report/mlflow_runs.py", "cola/report/mlflow_store.py"]


def test_three_rooms_do_without_torch():
    files = [file for file in LIBRARY if find_room(file) in ("core", "fetch", "data")]
    assert len(files) > 20
    for file in files:
        assert [source for source in close_imports(file) if "torch" in list_packages(source)] == [], file


def test_no_imports_run_in_a_circle():
    for file in LIBRARY:
        assert file not in set().union(*map(close_imports, list_imported_files(file))), f"{file} imports itself"
    assert sum(len(list_imported_files(file)) for file in LIBRARY) > 100


def test_git_keeps_what_experiments_need_whatever_else_it_ignores(tmp_path):
    ignored = tmp_path / "ignored"
    ignored.write_text("*.csv\n*.json\n*.lock\nmetrics/\ncorpora/\n")
    entries = [
        entry for stage in PIPELINE.values() for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])
    ]
    outputs = [path for entry in entries if isinstance(entry, dict) for path in entry if entry[path]["cache"] is False]
    assert len(outputs) == 11
    needed = ["dvc.lock", "corpora/mine/train.csv", "corpora/by/year/test.csv", *outputs]
    command = ["git", "-c", f"core.excludesFile={ignored}", "check-ignore", "--no-index"]
    assert run_to_end([*command, *needed, "a.csv", "metrics/timings.json"]).stdout.split() == [
        "a.csv",
        "metrics/timings.json",
    ]
