"""The tables of tokenized sentences in data/tokenized, as Parquet."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cola.core import files

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")
ROW_GROUP = 2**16  # sentences
SCHEMA = pa.schema(
    [
        ("sentence_source", pa.string()),
        ("label", pa.int8()),  # or a wider integer, where a corpus has more labels
        ("sentence", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
    ]
)


class Sentences(NamedTuple):
    """A split as the training reads it."""

    input_ids: Sequence[np.ndarray]  # the token ids of each sentence
    labels: np.ndarray  # (sentences,) int64


def write(path: Path, table: pa.Table, source: Mapping[str, Any]) -> None:
    """Write a table of tokenized sentences to a folder of files.atomic_folder, without the columns not in SCHEMA.

    `source`, the corpus's source.json, goes into the file's metadata: pandas reads it into `attrs`.
    """
    schema = SCHEMA.set(1, table.schema.field("label")).with_metadata({"PANDAS_ATTRS": json.dumps(source)})
    pq.write_table(table.select(schema.names).cast(schema), path, row_group_size=ROW_GROUP)


def read(path: Path) -> "pd.DataFrame":
    """Read a table; its source is in `attrs`. Raises UserError as files.verify."""
    import pandas as pd  # takes a quarter of a second, which tokenize does not need

    return pd.read_parquet(files.verify(path))


def read_sentences(path: Path) -> Sentences:
    """Read what a training needs of a table. Raises as `read`."""
    table = pq.read_table(files.verify(path), columns=["label", "input_ids"])
    return Sentences(list(table["input_ids"].to_numpy()), table["label"].to_numpy().astype(np.int64))


def read_first_row_group(path: Path) -> "pd.DataFrame":
    """Read the first ROW_GROUP rows of a table, a sample: the rows are in random order. Raises as `read`."""
    return pq.ParquetFile(files.verify(path)).read_row_group(0).to_pandas()


def read_source(path: Path) -> Any:
    """Read the source of a table. Raises as `read`."""
    return json.loads(pq.read_schema(files.verify(path)).metadata[b"PANDAS_ATTRS"])


def count(path: Path) -> int:
    """Return the number of sentences in a table."""
    return int(pq.read_metadata(path).num_rows)
