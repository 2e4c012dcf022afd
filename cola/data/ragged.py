"""The token ids of many sentences in one array."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cola.core import files


class RaggedArray(Sequence[np.ndarray]):
    """Rows of different lengths, in one array: row i is values[starts[i] : starts[i + 1]]."""

    def __init__(self, values: np.ndarray, starts: np.ndarray) -> None:
        self.values = values  # (tokens,) int32
        self.starts = starts  # (rows + 1,) int64, from 0

    @classmethod
    def from_rows(cls, rows: Sequence[Any]) -> "RaggedArray":
        """[[101, 7, 102], [101, 102]] -> values [101, 7, 102, 101, 102], starts [0, 3, 5]"""
        starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return cls(np.concatenate(rows, dtype=np.int32, casting="same_kind"), starts)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens per row, (rows,) int64."""
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

    def map_values(self, change: Callable[[np.ndarray], np.ndarray]) -> "RaggedArray":
        """Return rows of the same lengths; `change` takes all values, (tokens,) int32, and returns the new ones."""
        return RaggedArray(change(self.values).astype(np.int32), self.starts)


class Sentences(NamedTuple):
    """A split as the training reads it."""

    input_ids: RaggedArray
    labels: np.ndarray  # (sentences,) int64


def read_sentences(path: Path) -> Sentences:
    """Read a table in data/tokenized. Raises UserError as files.verify."""
    table = pq.read_table(files.verify(path), columns=["label", "input_ids"])
    tokens = pc.list_value_length(table["input_ids"]).to_numpy()  # of each sentence
    starts = np.concatenate([[0], np.cumsum(tokens, dtype=np.int64)])
    values = pc.list_flatten(table["input_ids"]).to_numpy()
    return Sentences(RaggedArray(values, starts), table["label"].to_numpy().astype(np.int64))
