"""The trained model as MLflow stores it: its files by hash, instead of a copy of 440 MB in every run.

It is loaded (`mlflow models serve`) in the project's folder, where the files are in models/finetuned or, if another run
has replaced them, in DVC's cache.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from cola.core import files, params, paths
from cola.core.errors import UserError


def reference() -> dict[str, dict[str, str]]:
    """Of each file in models/finetuned the sha256, to verify it, and the md5, which is its name in DVC's cache."""
    return {path.name: _hashes(path) for path in sorted(paths.FINETUNED.iterdir())}


def _hashes(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return {"sha256": files.sha256(path), "md5": md5.hexdigest()}


class TextClassifier:
    """What MLflow calls: texts in, labels and probabilities out."""

    def __init__(self, folder: Path) -> None:
        from cola.model.device import choose_device, choose_precision
        from cola.model.prediction import Predictor  # and with it PyTorch, which takes seconds: only here

        settings = params.load(paths.PARAMS)
        device = choose_device(settings.device)
        self.predictor = Predictor(folder, device, choose_precision(settings.precision, device))

    def predict(self, texts: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """`texts` has a column text. Returns the columns label and probability, a row for each text."""
        return pd.DataFrame(self.predictor.classify(texts["text"]), columns=["label", "probability"])


def _load_pyfunc(path: str) -> TextClassifier:
    """MLflow's entry: `path` is the reference. Raises UserError where a file is missing or is another."""
    with tempfile.TemporaryDirectory() as temporary:
        for name, hashes in files.read_json(Path(path)).items():
            Path(temporary, name).symlink_to(_find(name, **hashes).absolute())
        return TextClassifier(Path(temporary))


def _find(name: str, sha256: str, md5: str) -> Path:
    """The file of this name and content, in models/finetuned or in DVC's cache."""
    from dvc.repo import Repo  # takes a second: only here

    with Repo() as repo:
        cached = Path(repo.cache.local.path, md5[:2], md5[2:])
    for path in (paths.FINETUNED / name, cached):
        if path.exists() and files.sha256(path) == sha256:
            return path
    raise UserError(f"{name} of this model is neither in {paths.FINETUNED} nor in DVC's cache: `dvc pull` may bring it")
