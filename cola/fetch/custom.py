"""A corpus from a user's folder: DVC must notice its changes, and its tables are written in the plain form."""

import os
import shlex
from pathlib import Path

from cola.core import files, paths
from cola.core.errors import UserError
from cola.fetch import plain_form, tables
from cola.fetch.sources import CORPORA, Source


def find_corpus(name: str) -> Path:
    """The folder in corpora/ that fetch.corpus names.

    Raises UserError where DVC would not notice a later change: it compares the files in corpora/ and follows no link.
    """
    root = paths.find_root()
    folder = Path(os.path.relpath(root / name, root))
    if paths.CORPORA not in (folder, *folder.parents):
        raise UserError(
            f"fetch.corpus: {name} is neither {' nor '.join(CORPORA)} nor a folder in corpora/, where DVC notices a "
            "change: copy your tables to corpora/NAME and set fetch.corpus=corpora/NAME"
        )
    for part in folder.parts:
        if files.NO_CONTENT.fullmatch(part):
            raise UserError(f"fetch.corpus: {name} is hidden, and DVC passes {part} over: give it another name")
    original = root / folder  # an experiment runs in a copy of the tracked files
    needed = [folder / path.name for path in original.glob("t*") if path.stem in ("train", "test")]
    for path in (folder, *folder.parents, *needed):
        if path.is_symlink() and not path.is_file():
            raise UserError(f"fetch.corpus: {path} is a link, which DVC does not follow: copy the folder instead")
        if not path.exists() and needed:
            typed = shlex.quote(str(folder))
            raise UserError(
                f"fetch.corpus: git does not track {path}, and an experiment would not see a change in it: "
                f"run `git add {typed} && git commit -m corpus` (for large tables `dvc add {typed} && git add corpora "
                "&& git commit -m corpus`)"
            )
    if not folder.is_dir():
        raise UserError(f"fetch.corpus: {name} is no folder in this project: make it, with train.csv and test.csv")
    return folder


def copy(name: str, folder: Path) -> tuple[Source, list[str], list[Path]]:
    """Write the tables train and test of a user's folder in corpora/ to `folder`, in the plain form.

    Returns their source, the labels' names, and the paths of the user's files. Raises UserError, in one line, if a
    table is missing or a row cannot be used.
    """
    origin = find_corpus(name)
    training, test = (tables.find_table(origin, table) for table in ("train", "test"))
    if ignored := sorted(path.name for path in origin.glob("*") if path.stem in ("dev", "valid", "validation")):
        print(f"note: {', '.join(ignored)} is not read: a part of {training.name} validates the model instead")
    labels = plain_form.write_corpus(folder, tables.read_table(training), tables.read_table(test))
    rights = "not stated: the corpus is the user's own"
    return Source(origin.name, None, {}, license=rights, citation=rights), labels, [training, test]
