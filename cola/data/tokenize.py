"""Sentences of any number -> data/tokenized, in memory that does not grow with them.

They are kept on the disk as they are read, and tokenized piece by piece; each piece is kept too, so that a run which is
killed is gone on with. What is kept lies in .dvc/tmp of the main project, under a digest of all that determines it.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tokenizers
import transformers
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from cola.core import files, paths, progress
from cola.core.params import Tokenize
from cola.data import corpus, encoding, tables

PIECE = 2**16  # sentences: a row group of a table, and what a kill may cost
ROWS = pa.schema([("sentence_source", pa.string()), ("label", pa.int8()), ("sentence", pa.string())])
PIECES = tables.SCHEMA.append(pa.field("length", pa.int32()))  # tokens before the cut


@contextmanager
def scratch_folder(settings: Tokenize, seed: int) -> Iterator[Path]:
    """The folder for what is kept of this tokenization, with what a killed run left there; removed when all went well.

    Of two tokenizations at once, the second waits for the first.
    """
    inputs = [paths.RAW / files.CHECKSUMS, paths.PRETRAINED / files.CHECKSUMS]
    libraries = [module.__version__ for module in (np, pa, tokenizers, transformers)]
    digest = files.digest(
        {"settings": settings.model_dump(), "seed": seed, "libraries": libraries}, inputs, ("core", "data")
    )
    folder = paths.SCRATCH / "tokenize" / digest
    with files.name_write_errors(folder), FileLock(paths.SCRATCH / "tokenize.lock"):
        folder.parent.mkdir(exist_ok=True)
        files.remove_stale(folder.parent)
        folder.mkdir(exist_ok=True)
        yield folder
        shutil.rmtree(folder)


def write_tables(
    folder: Path,
    kept: Path,
    training_file: Iterable[corpus.Row],
    test: Iterable[corpus.Row],
    tokenizer: PreTrainedTokenizerBase,
    settings: Tokenize,
    seed: int,
    source: Mapping[str, Any],
) -> dict[str, float | int]:
    """Write train, validation and test .parquet to `folder`, and return what the corpus is like.

    Lengths are in tokens, special tokens included, before the cut to `max_length`; longest_sentence and mean_length are
    those of the training file (train and validation), as the tutorial has them. test_positives, of two classes alone,
    are the test's sentences of class 1. `kept` is a folder for what a killed run need not do again. Raises UserError
    where max_length is more than the encoder takes, or a part would be empty.
    """
    encoding.check_max_length(settings.max_length, tokenizer)
    rows = {"training": _rows(kept / "training.arrow", training_file), "test": _rows(kept / "test.arrow", test)}
    counts = {
        name: sum(each.get_batch(i).num_rows for i in range(each.num_record_batches)) for name, each in rows.items()
    }
    training, validation = corpus.split(counts["training"], settings.validation_fraction, seed)
    parts = {
        "train": (rows["training"], training),
        "validation": (rows["training"], validation),
        "test": (rows["test"], np.arange(counts["test"])),
    }
    lengths = {}
    with progress.bar(sum(counts.values()), "sentences", "tokenize") as bar:
        for part, (reader, order) in parts.items():
            pieces = []
            for number, start in enumerate(range(0, len(order), PIECE)):
                places = order[start : start + PIECE]
                pieces.append(kept / f"{part}-{number:05}.parquet")
                if not pieces[-1].exists():
                    table = _tokenized(_taken(reader, places), tokenizer, settings.max_length)
                    with files.atomic_file(pieces[-1]) as partial:
                        pq.write_table(table, partial)
                bar.update(len(places))
            tables.write(folder / f"{part}.parquet", map(pq.read_table, pieces), source)
            lengths[part] = np.concatenate([pq.read_table(each, columns=["length"])["length"] for each in pieces])
    of_training_file = np.concatenate([lengths["train"], lengths["validation"]])
    positives = pq.read_table(folder / "test.parquet", columns=["label"])["label"]
    return {
        "training_sentences": len(training),
        "validation_sentences": len(validation),
        "test_sentences": counts["test"],
        **({"test_positives": pc.sum(positives).as_py()} if len(source["labels"]) == 2 else {}),
        "longest_sentence": int(of_training_file.max()),
        "mean_length": float(of_training_file.mean()),
        "truncated_sentences": int(sum((each > settings.max_length).sum() for each in lengths.values())),
    }


def _rows(path: Path, rows: Iterable[corpus.Row]) -> pa.RecordBatchFileReader:
    """Keep rows at `path`, where they are not there already, in batches of PIECE; and open it, mapped to memory."""
    if not path.exists():
        rows = iter(rows)
        with (
            files.atomic_file(path) as partial,
            pa.OSFile(str(partial), "wb") as file,
            pa.ipc.new_file(file, ROWS) as to,
        ):
            while piece := list(islice(rows, PIECE)):
                to.write_batch(pa.record_batch([list(column) for column in zip(*piece, strict=True)], schema=ROWS))
    return pa.ipc.open_file(pa.memory_map(str(path)))


def _taken(reader: pa.RecordBatchFileReader, places: np.ndarray) -> pa.Table:
    """The rows at these places, in their order. (Arrow's own `take` would bring all of the file into memory.)"""
    batches, within = np.divmod(places, PIECE)
    taken = [reader.get_batch(batch).take(pa.array(within[batches == batch])) for batch in np.unique(batches)]
    return pa.Table.from_batches(taken).take(np.argsort(np.argsort(batches, kind="stable")))


def _tokenized(table: pa.Table, tokenizer: PreTrainedTokenizerBase, max_length: int) -> pa.Table:
    input_ids, lengths = encoding.encode(table["sentence"].to_pylist(), tokenizer, max_length)
    columns = [*table.columns, pa.array(input_ids, PIECES.field("input_ids").type), pa.array(lengths, pa.int32())]
    return pa.table(columns, schema=PIECES)
