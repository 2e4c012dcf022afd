"""The tables of tokenized sentences in data/tokenized, as Parquet."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from cola.core import files

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")  # a table each
ROW_GROUP = 2**16  # sentences
SCHEMA = pa.schema(
    [
        ("sentence_source", pa.string()),
        ("label", pa.int8()),  # or a wider integer, where a corpus has more labels
        ("sentence", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
    ]
)


def write(path: Path, table: pa.Table, source: Mapping[str, Any]) -> None:
    """Write a table of tokenized sentences to a folder of files.atomic_folder; columns not in SCHEMA are left out.

    `source` (plain data, where the sentences are from) goes into the file's metadata, where pandas keeps `attrs`.
    Raises KeyError for a missing column.
    """
    schema = SCHEMA.set(1, table.schema.field("label")).with_metadata({"PANDAS_ATTRS": json.dumps(source)})
    pq.write_table(table.select(schema.names).cast(schema), path, row_group_size=ROW_GROUP)


def read(path: Path) -> "pd.DataFrame":
    """Read a table of a folder that files.atomic_folder filled; its source is in `attrs`. Raises as files.verified."""
    import pandas as pd  # takes a quarter of a second, which tokenize does not need

    return pd.read_parquet(files.verified(path))


def read_first_row_group(path: Path) -> "pd.DataFrame":
    """Read the first row group of such a table: a sample of it, for the rows are in random order."""
    return pq.ParquetFile(files.verified(path)).read_row_group(0).to_pandas()


def read_source(path: Path) -> Any:
    """The `source` that a table was written with."""
    return json.loads(pq.read_schema(files.verified(path)).metadata[b"PANDAS_ATTRS"])


def count(path: Path) -> int:
    """How many sentences a table has."""
    return int(pq.read_metadata(path).num_rows)
