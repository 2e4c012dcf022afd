"""A corpus or an encoder of one's own, from a folder."""

import json
import os
import re
import shutil
from pathlib import Path

from cola.core import paths
from cola.core.errors import UserError
from cola.data import corpus
from cola.data.sources import Source

TOKENIZER_FILES = re.compile(
    r"(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|(vocab|merges)\.txt|[^/\\]+\.model"
)


def find_folder(name: str, setting: str) -> Path:
    """The folder that a setting names: absolute, in the home folder, or relative to the project's root."""
    folder = Path(name).expanduser()
    # DVC runs an experiment in a copy of the project (DVC_ROOT), which lacks what git does not track.
    places = [place for place in (folder, Path(os.environ.get("DVC_ROOT", "."), folder)) if place.is_dir()]
    if not places:
        raise UserError(f"{setting}: {name} is neither known nor a folder (params.yaml says what can stand there)")
    if paths.CORPORA not in folder.parents:
        print(f"{name} is copied as it is now: after a change in it, run `dvc repro --force --downstream fetch`")
    return places[0]


def copy_corpus(name: str, folder: Path) -> tuple[Source, list[str]]:
    """Copy the sentences of a folder, and return what they are and their labels' names.

    Raises UserError, in one line, where train or test is missing, or something in them is not as it must be.
    """
    origin = find_folder(name, "fetch.corpus")
    training, test = (corpus.find_table(origin, part) for part in corpus.USER_TABLES)
    labels = corpus.label_names(training)
    for _ in corpus.read_table(test, labels):
        pass  # every row is checked
    for path in (training, test):
        shutil.copyfile(path, folder / path.name)
    own = "not stated: the corpus is the user's own"
    return Source(origin.resolve().name, None, {}, license=own, citation=own), labels


def copy_encoder(name: str, folder: Path) -> Source:
    """Copy the encoder in a folder: config.json, model.safetensors and the tokenizer's files.

    Raises UserError, in one line, where one is missing or asks for code of its own.
    """
    origin = find_folder(name, "fetch.encoder")
    for file in ("config.json", "model.safetensors"):
        if not (origin / file).is_file():
            raise UserError(f"{name} has no {file} (weights must be in one file; pickles are never loaded)")
    refuse_remote_code(name, origin / "config.json")
    for path in sorted(origin.iterdir()):
        if path.name in ("config.json", "model.safetensors") or TOKENIZER_FILES.fullmatch(path.name):
            shutil.copyfile(path, folder / path.name)
    own = "not stated: the encoder is the user's own"
    return Source(origin.resolve().name, None, {}, license=own, citation=own)


def refuse_remote_code(name: str, config: Path) -> None:
    """Raise UserError for a config that names Python code of its own to be run, or is no JSON object."""
    try:
        keys = dict(json.loads(config.read_bytes()))
    except (ValueError, TypeError):
        raise UserError(f"{name}: {config.name} is not a JSON object") from None
    if "auto_map" in keys:
        raise UserError(
            f"{name}: {config.name} has auto_map, code of its own, which is never run: take another encoder"
        )
