"""No pickle is loaded and no model's code is run. Here: the libraries' options. ruff (S) refuses pickle, eval, exec."""

import ast

import pytest
from project import ROOT

FILES = sorted(path for folder in ("cola", "stages", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
CALLS = {"torch.load", "joblib.load"}
OPTIONS = {"trust_remote_code": False, "use_safetensors": True, "allow_pickle": False, "weights_only": True}


def list_faults(source):
    """Return the calls of a module that could run code: by their function, or by an option that is not a literal."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            faults += [name] * (name in CALLS)
            # The option must be there: a default may change.
            faults += [name] * (name.endswith("from_pretrained") and "trust_remote_code" not in options)
            faults += [name for option in options.keys() & OPTIONS if options[option] != str(OPTIONS[option])]
    return faults


def test_no_module_can_run_the_code_of_a_file():
    faults = {path.relative_to(ROOT).as_posix(): list_faults(path.read_text(encoding="utf-8")) for path in FILES}
    assert {file: calls for file, calls in faults.items() if calls} == {}
    assert len(FILES) > 50
    assert "cola/train/loop.py" in faults


@pytest.mark.parametrize(
    "call",
    [
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name)",
        "AutoModel.from_pretrained(name, trust_remote_code=choice)",
        "AutoModel.from_pretrained(name, trust_remote_code=False, use_safetensors=False)",
    ],
)
def test_the_guard_notices(call):
    assert list_faults(call) != []
