"""The token ids of many sentences in one array, which may be larger than memory."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow.parquet as pq

from cola.core import files, paths

BLOCK_VALUES = 2**20  # read and written together


class RaggedArray(Sequence[np.ndarray]):
    """Rows of different lengths, in one array: row i is values[starts[i] : starts[i + 1]]."""

    def __init__(self, values: np.ndarray, starts: np.ndarray) -> None:
        self.values = values  # (tokens,) int32
        self.starts = starts  # (rows + 1,) int64, from 0

    @classmethod
    def from_rows(cls, rows: Sequence[Any]) -> "RaggedArray":
        """[[101, 7, 102], [101, 102]] -> values [101, 7, 102, 101, 102], starts [0, 3, 5]"""
        if isinstance(rows, cls):
            return rows
        starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return cls(np.concatenate(rows, dtype=np.int32, casting="same_kind"), starts)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each row, (rows,) int64."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, row: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, row: slice) -> list[np.ndarray]: ...
    def __getitem__(self, row: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        return self.values[self.starts[row] : self.starts[row + 1]]

    def blocks(self) -> Iterator[np.ndarray]:
        """The values in blocks of BLOCK_VALUES."""
        return (self.values[start : start + BLOCK_VALUES] for start in range(0, len(self.values), BLOCK_VALUES))

    def map_values(self, change: Callable[[np.ndarray], np.ndarray]) -> "RaggedArray":
        """Rows of the same lengths with other values, memory-mapped: `change` takes and returns a block of values."""
        return RaggedArray(memory_mapped(change(block) for block in self.blocks()), self.starts)


class Sentences(NamedTuple):
    """The sentences of a split, as a training takes them."""

    input_ids: RaggedArray
    labels: np.ndarray  # (sentences,) int64


def read_sentences(path: Path) -> Sentences:
    """The sentences of a table in data/tokenized, their token ids memory-mapped. Raises UserError as files.verified."""
    labels, lengths = [], [np.zeros(1, dtype=np.int64)]

    def blocks() -> Iterator[np.ndarray]:
        for batch in pq.ParquetFile(files.verified(path)).iter_batches(columns=["label", "input_ids"]):
            labels.append(batch.column("label").to_numpy().astype(np.int64))
            lengths.append(batch.column("input_ids").value_lengths().to_numpy().astype(np.int64))
            yield batch.column("input_ids").flatten().to_numpy()

    values = memory_mapped(blocks())
    return Sentences(RaggedArray(values, np.concatenate(lengths).cumsum()), np.concatenate(labels))


def memory_mapped(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """The values of int32 blocks, concatenated, in a memory-mapped file; there must be at least one value.

    The file has no name, so that it is deleted with the array, or when the process ends. Raises UserError where the
    system refuses to write.
    """
    with files.name_write_errors(paths.SCRATCH):
        paths.SCRATCH.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=paths.SCRATCH) as file:
            for block in blocks:
                file.write(np.ascontiguousarray(block, dtype=np.int32).data)
            file.flush()
            return np.memmap(file, dtype=np.int32, mode="r")
