"""Edits while a stage runs: of its code and settings, and of others'. test_out_of_date.py has a real `dvc repro`."""

import shutil
import sys
from pathlib import Path

import pytest
from project import ROOT

from cola.core import inputs
from cola.core.errors import UserError


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """Return a function that edits a setting of a project whose stage has begun."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("core", "report"):
        (tmp_path / "cola" / name).mkdir(parents=True)
        (tmp_path / f"cola/{name}/a.py").touch()
        monkeypatch.setitem(sys.modules, f"{name}_a", type(sys)(f"{name}_a"))
        sys.modules[f"{name}_a"].__file__ = str(tmp_path / f"cola/{name}/a.py")
    (tmp_path / "cola/core/not_imported.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inputs, "_before", {})
    inputs.remember()

    def replace(old, new):
        text = Path("params.yaml").read_text()
        assert text.count(old) == 1
        Path("params.yaml").write_text(text.replace(old, new))

    return replace


@pytest.mark.parametrize(
    ("old", "new", "setting", "stages"),
    [
        ("seed: 42", "seed: 43", "seed", {"tokenize", "train"}),
        ("epochs: 4", "epochs: 3", "train.epochs", {"train"}),
        ("precision: auto", "precision: float32", "precision", {"train", "evaluate", "sample_predict"}),
        ("corpus: cola", "corpus: minimal_pairs", "fetch.corpus", {"fetch@corpus"}),
        ("bert-base-uncased", "bert-large-uncased", "fetch.encoder", {"fetch@encoder"}),
    ],
)
def test_a_setting_changes_the_stages_that_read_it_only(edit, monkeypatch, old, new, setting, stages):
    edit(old, new)
    for stage in ("fetch@corpus", "fetch@encoder", "tokenize", "train", "evaluate", "sample_predict"):
        monkeypatch.setenv("DVC_STAGE", stage)
        if stage in stages:
            with pytest.raises(UserError, match=f"^{setting} changed while the stage ran, .*: run `dvc repro` again$"):
                inputs.require_unchanged()
        else:
            inputs.require_unchanged()


def test_imported_code_counts_but_not_the_reports(edit, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train")
    for name in ("cola/report/a.py", "cola/core/not_imported.py"):
        Path(name).write_text("# A comment.\n")
    inputs.require_unchanged()
    Path("cola/core/a.py").unlink()
    with pytest.raises(UserError, match=r"^cola/core/a.py changed while"):
        inputs.require_unchanged()
    edit("epochs: 4", "epochs: four")
    with pytest.raises(UserError, match=r"train.epochs must be a whole number"):
        inputs.require_unchanged()


def test_without_dvc_an_edit_does_no_harm(edit, monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    edit("epochs: 4", "epochs: 3")
    inputs.require_unchanged()
