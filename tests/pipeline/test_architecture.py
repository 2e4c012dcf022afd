"""dvc.yaml and the code agree: what each stage depends on, reads and writes is derived from its source."""

import ast
from pathlib import Path

import pytest
import yaml

from cola.core import params, paths

ROOT = Path(__file__).parents[2]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
WRITERS = ("write_text", "write_json", "write_csv", "directory")  # of cola.artifacts, with the path as first argument


def parse(file):
    return ast.parse((ROOT / file).read_text())


def imported(file):
    """The files of cola/ that a file imports, in either form: `from cola import x`, `from cola.x import y`."""
    found = {"cola/__init__.py"}
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.ImportFrom) and node.module == "cola":
            found |= {f"cola/{alias.name}.py" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cola."):
            found.add(node.module.replace(".", "/") + ".py")
    return found


def closure(file):
    found, waiting = set(), {file}
    while waiting:
        found |= waiting
        waiting = set().union(*(imported(each) for each in waiting)) - found
    return found


def path_of(node):
    """The file that an expression names: paths.RAW, or paths.RAW / "x" where x is a literal; None for any other."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "paths":
        return getattr(paths, node.attr)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and path_of(node.left):
        return path_of(node.left) / node.right.value if isinstance(node.right, ast.Constant) else path_of(node.left)
    return None


def written(file):
    calls = [node for node in ast.walk(parse(file)) if isinstance(node, ast.Call)]
    return {
        path_of(call.args[0]).as_posix()
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in WRITERS and path_of(call.args[0])
    }


def named(file):
    """Every path that the stage names, the longest form of each (paths.RAW / "x", not paths.RAW within it)."""
    found, inner = set(), set()
    for node in ast.walk(parse(file)):
        if path_of(node) and node not in inner:
            found.add(path_of(node).as_posix())
            inner |= set(ast.walk(node))
    return found


def settings_read(file):
    """The sections of params.yaml that a stage takes: settings.train, or settings.seed."""
    return {
        node.attr
        for node in ast.walk(parse(file))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "settings"
    }


def outs(stage):
    declared = [out for kind in ("outs", "metrics", "plots") for out in PIPELINE[stage].get(kind, [])]
    return {next(iter(out)) if isinstance(out, dict) else out for out in declared}


def test_there_are_five_stages_and_each_is_in_the_pipeline():
    assert STAGES == ["evaluate", "fetch", "sample_predict", "tokenize", "train"]
    assert sorted(PIPELINE) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_the_code_that_it_runs(stage):
    code = {dep for dep in PIPELINE[stage]["deps"] if dep.endswith(".py")}
    assert code == closure(f"stages/{stage}.py")
    assert len(code) > 4


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_settings_that_it_reads(stage):
    assert set(PIPELINE[stage]["params"]) == settings_read(f"stages/{stage}.py")
    assert settings_read(f"stages/{stage}.py") <= set(params.Params.model_fields)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_outputs_that_it_writes(stage):
    assert outs(stage) == written(f"stages/{stage}.py")
    assert outs(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_files_that_it_reads(stage):
    data = {dep for dep in PIPELINE[stage]["deps"] if not dep.endswith(".py")}
    own = outs(stage) | {f"{out}/model.safetensors" for out in outs(stage)}  # train hashes the model that it wrote
    read = named(f"stages/{stage}.py") - own - {"params.yaml"}
    for path in read:  # a declared folder covers what is in it
        covering = [dep for dep in data if path == dep or path.startswith(f"{dep}/")]
        recorded = path.startswith("metrics/")  # train shows MLflow what tokenize measured
        assert covering or recorded, f"{stage} reads {path}"
    for dep in data - {paths.CORPORA.as_posix()}:  # which cola/folders.py reads
        assert any(path == dep or path.startswith(f"{dep}/") for path in read), f"{stage} does not read {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_as_a_module_and_starts_nothing_on_import(stage):
    assert PIPELINE[stage]["cmd"] == f"exec python -m stages.{stage}"
    statements = parse(f"stages/{stage}.py").body
    kinds = (ast.Expr, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Assign, ast.If)
    assert all(isinstance(statement, kinds) for statement in statements)
    assert ast.unparse(statements[-1].test) == "__name__ == '__main__'"


def test_imports_run_one_way():
    library = sorted((ROOT / "cola").glob("*.py"))
    assert len(library) > 15
    for file in [*library, *(ROOT / "stages").glob("*.py")]:
        text = file.read_text()
        assert "import stages" not in text
        assert "from stages" not in text
    for stage in STAGES:
        assert not any(dep.startswith("stages/") and dep != f"stages/{stage}.py" for dep in PIPELINE[stage]["deps"])


def test_only_tracking_imports_mlflow():
    users = [
        path.name
        for path in (ROOT / "cola").glob("*.py")
        if "import mlflow" in path.read_text() or "from mlflow" in path.read_text()
    ]
    assert users == ["tracking.py"]


@pytest.mark.parametrize("module", ["params", "paths", "sources", "corpus", "minimal_pairs", "scoring", "artifacts"])
def test_these_modules_do_without_torch(module):
    for file in closure(f"cola/{module}.py"):
        assert "import torch" not in (ROOT / file).read_text(), f"{module} needs {file}"
