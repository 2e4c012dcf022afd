"""The trained model as MLflow has it: a reference to its files by hash, instead of a copy of 440 MB in every run.

Whoever loads it (`mlflow models serve`) stands in the project's folder: there the files are in models/finetuned, or, of
an older run, in DVC's cache.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from cola.core import files, params, paths
from cola.core.errors import UserError
from cola.data import encoding
from cola.model import classifier, hardware, metrics, prediction


def reference() -> dict[str, dict[str, str]]:
    """Of each file of the model in the workspace, the sha256, which vouches for it, and the md5, DVC's name for it."""
    return {path.name: _hashes(path) for path in sorted(paths.FINETUNED.iterdir())}


def _hashes(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return {"sha256": files.sha256(path), "md5": md5.hexdigest()}


class Judge:
    """What MLflow calls: texts in, a label and its probability out."""

    def __init__(self, folder: Path) -> None:
        settings = params.load(paths.PARAMS)
        device = hardware.choose_device(settings.device)
        self.precision = hardware.choose_precision(settings.precision, device)
        self.max_length = settings.tokenize.max_length
        self.tokenizer = encoding.load_tokenizer(folder)
        self.model = prediction.prepare(classifier.load(folder, device), self.precision)

    def predict(self, texts: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """`texts` has a column text. Returns the columns label and probability, a row for each."""
        input_ids, _ = encoding.encode(texts["text"], self.tokenizer, self.max_length)
        probabilities = metrics.probabilities(prediction.predict_logits(self.model, input_ids, self.precision))
        names = classifier.label_names(self.model)
        judged = [(names[row.argmax()], float(row.max())) for row in probabilities]
        return pd.DataFrame(judged, columns=["label", "probability"])


def _load_pyfunc(path: str) -> Judge:
    """MLflow's entry: `path` is the reference. Raises UserError where a file is not to be found, or is another."""
    with tempfile.TemporaryDirectory() as temporary:
        for name, hashes in files.read_json(Path(path)).items():
            Path(temporary, name).symlink_to(_found(name, **hashes).absolute())
        return Judge(Path(temporary))


def _found(name: str, sha256: str, md5: str) -> Path:
    from dvc.repo import Repo  # takes a second: only here

    with Repo() as repo:
        cached = Path(repo.cache.local.path, md5[:2], md5[2:])
    for place in (paths.FINETUNED / name, cached):
        if place.exists() and files.sha256(place) == sha256:
            return place
    raise UserError(f"{name} of this model is neither in {paths.FINETUNED} nor in DVC's cache: `dvc pull` may bring it")
