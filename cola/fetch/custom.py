"""A corpus or an encoder from a user's own folder: it is checked, then copied."""

import json
import os
import re
import shutil
from pathlib import Path

from cola.core import paths
from cola.core.errors import UserError
from cola.fetch import tables
from cola.fetch.sources import Source

TOKENIZER_FILES = re.compile(
    r"(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|(vocab|merges)\.txt|[^/\\]+\.model"
)


def find_folder(name: str, setting: str) -> Path:
    """The user's own folder that a setting names: absolute, in the home folder, or relative to the project's root.

    Prints how a later change in it gets into the project, where DVC does not watch the folder. Raises UserError where
    there is no such folder; `setting` is the key in params.yaml that the message names.
    """
    folder = Path(name).expanduser()
    # DVC runs an experiment in a copy of the project (DVC_ROOT), which lacks what git does not track.
    found = [path for path in (folder, Path(os.environ.get("DVC_ROOT", "."), folder)) if path.is_dir()]
    if not found:
        raise UserError(f"{setting}: {name} is neither known nor a folder (params.yaml says what can stand there)")
    if paths.CORPORA not in folder.parents:
        stage = setting.replace(".", "@")
        print(f"{name} is copied as it is now: after a change in it, run `dvc repro --force --downstream {stage}`")
    return found[0]


def write_corpus(name: str, folder: Path) -> tuple[Source, list[str], list[Path]]:
    """Write the tables train and test of a user's own folder to `folder`, in the plain form of cola/fetch/tables.py.

    Returns their source, the labels' names, and the paths of the user's files. Raises UserError, in one line, if a
    table is missing or a row cannot be used.
    """
    origin = find_folder(name, "fetch.corpus")
    training, test = (tables.find_table(origin, table) for table in ("train", "test"))
    labels = tables.sort_labels(tables.write(folder / "train.csv", tables.read_table(training)), training)
    tables.write(folder / "test.csv", tables.read_table(test, labels))
    rights = "not stated: the corpus is the user's own"
    return Source(origin.resolve().name, None, {}, license=rights, citation=rights), labels, [training, test]


def copy_encoder(name: str, folder: Path) -> Source:
    """Copy config.json, model.safetensors and the tokenizer's files of a user's own folder. Returns their source.

    Raises UserError, in one line, where one is missing or the config names Python code to be run.
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
    """Raise UserError where a config file has auto_map, Python code to be run with the model, or is no JSON object."""
    try:
        keys = dict(json.loads(config.read_bytes()))
    except (ValueError, TypeError):
        raise UserError(f"{name}: {config.name} is not a JSON object") from None
    if "auto_map" in keys:
        raise UserError(
            f"{name}: {config.name} has auto_map, code of its own, which is never run: take another encoder"
        )
