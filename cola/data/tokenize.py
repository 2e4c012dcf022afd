"""A corpus of any size -> the tables of data/tokenized, in memory that does not grow with it.

The rows are stored on the disk as they are read, and tokenized a row group at a time. Each row group becomes a file, a
shard, so that a run does not repeat what a killed one has done. Rows and shards lie in a scratch folder.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers
import transformers
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from cola.core import files, paths, progress
from cola.core.params import Tokenize
from cola.data import corpus, encoding, tables

ROW_GROUP = 2**16  # sentences
ROWS = pa.schema([("sentence_source", pa.string()), ("label", pa.int8()), ("sentence", pa.string())])
SHARD = tables.SCHEMA.append(pa.field("length", pa.int32()))  # tokens before the cut


class Split(NamedTuple):
    """The sentences of a table: which of the stored rows they are, in which order."""

    rows: pa.RecordBatchFileReader
    order: np.ndarray  # (sentences,) int64, indices of rows


@contextmanager
def scratch_folder(settings: Tokenize, seed: int) -> Iterator[Path]:
    """Yield the scratch folder of this corpus, tokenizer and settings; remove it when the block ends without an error.

    It lies in .dvc/tmp of the main project, under a digest of all that determines its files. Of two tokenizations at
    once, the second waits for the first.
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


def store_splits(scratch: Path, raw: corpus.Corpus, settings: Tokenize, seed: int) -> dict[str, Split]:
    """Store the rows of a corpus in the scratch folder, and split them: tables.SPLITS -> Split.

    The test sentences stay in their order. Raises UserError as corpus.split.
    """
    training_rows = _store_rows(scratch / "training.arrow", raw.training_rows)
    test_rows = _store_rows(scratch / "test.arrow", raw.test_rows)
    training, validation = corpus.split(
        _count(training_rows), settings.validation_fraction, seed, settings.training_sentences
    )
    return {
        "train": Split(training_rows, training),
        "validation": Split(training_rows, validation),
        "test": Split(test_rows, np.arange(_count(test_rows))),
    }


def tokenize_splits(
    scratch: Path, splits: Mapping[str, Split], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, list[Path]]:
    """Write the shards of each split that the scratch folder lacks, and return the paths of all of them, in order."""
    shards: dict[str, list[Path]] = {name: [] for name in splits}
    with progress.bar(sum(len(split.order) for split in splits.values()), "sentences", "tokenize") as bar:
        for name, split in splits.items():
            for number, start in enumerate(range(0, len(split.order), ROW_GROUP)):
                indices = split.order[start : start + ROW_GROUP]
                shard = scratch / f"{name}-{number:05}.parquet"
                if not shard.exists():
                    table = _tokenize_rows(_take(split.rows, indices), tokenizer, max_length)
                    with files.atomic_file(shard) as partial:
                        pq.write_table(table, partial)
                shards[name].append(shard)
                bar.update(len(indices))
    return shards


def write_tables(folder: Path, shards: Mapping[str, list[Path]], source: Mapping[str, Any]) -> None:
    """Write the table of each split to `folder`; its row groups are the split's shards."""
    for name, parts in shards.items():
        tables.write(folder / f"{name}.parquet", map(pq.read_table, parts), source)


def read_labels_and_lengths(shards: Mapping[str, list[Path]]) -> dict[str, pa.Table]:
    """The columns label and length of each split; a length is in tokens, special tokens included, before the cut."""
    return {
        name: pa.concat_tables(pq.read_table(shard, columns=["label", "length"]) for shard in parts)
        for name, parts in shards.items()
    }


def corpus_metrics(splits: Mapping[str, pa.Table], max_length: int, classes: int) -> dict[str, float | int]:
    """What metrics/corpus.json says of the splits' labels and lengths (see read_labels_and_lengths).

    longest_sentence and mean_length are of train and validation together, as in the tutorial. Where there are two
    classes, test_positives counts the test sentences of class 1.
    """
    lengths = {name: table["length"].to_numpy() for name, table in splits.items()}
    training_file = np.concatenate([lengths["train"], lengths["validation"]])
    test_labels = splits["test"]["label"].to_numpy()
    return {
        "training_sentences": len(lengths["train"]),
        "validation_sentences": len(lengths["validation"]),
        "test_sentences": len(lengths["test"]),
        **({"test_positives": int((test_labels == 1).sum())} if classes == 2 else {}),
        "longest_sentence": int(training_file.max()),
        "mean_length": float(training_file.mean()),
        "truncated_sentences": int(sum((split > max_length).sum() for split in lengths.values())),
    }


def _store_rows(path: Path, rows: Iterable[corpus.Row]) -> pa.RecordBatchFileReader:
    """Store rows at `path` in batches of ROW_GROUP, unless a killed run has done so, and open them, memory-mapped."""
    if not path.exists():
        rows = iter(rows)
        with (
            files.atomic_file(path) as partial,
            pa.OSFile(str(partial), "wb") as file,
            pa.ipc.new_file(file, ROWS) as writer,
        ):
            while batch := list(islice(rows, ROW_GROUP)):
                columns = [list(column) for column in zip(*batch, strict=True)]
                writer.write_batch(pa.record_batch(columns, schema=ROWS))
    return pa.ipc.open_file(pa.memory_map(str(path)))


def _count(rows: pa.RecordBatchFileReader) -> int:
    return sum(rows.get_batch(number).num_rows for number in range(rows.num_record_batches))


def _take(rows: pa.RecordBatchFileReader, indices: np.ndarray) -> pa.Table:
    """The rows at these indices, in their order. (Arrow's own `take` would bring the whole file into memory.)"""
    batches, within = np.divmod(indices, ROW_GROUP)
    taken = [rows.get_batch(batch).take(pa.array(within[batches == batch])) for batch in np.unique(batches)]
    return pa.Table.from_batches(taken).take(np.argsort(np.argsort(batches, kind="stable")))


def _tokenize_rows(rows: pa.Table, tokenizer: PreTrainedTokenizerBase, max_length: int) -> pa.Table:
    input_ids, lengths = encoding.encode(rows["sentence"].to_pylist(), tokenizer, max_length)
    columns = [*rows.columns, pa.array(input_ids, SHARD.field("input_ids").type), pa.array(lengths, pa.int32())]
    return pa.table(columns, schema=SHARD)
