"""The sentences that fetch left in data/raw, with their labels; and the split for validation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from cola.core.errors import UserError

COLUMNS = ("sentence_source", "label", "sentence")
BLOCK_BYTES = 2**24  # read together; no row is longer, since fetch's reader refuses fields of over 131,072 characters


def read(path: Path, labels: Sequence[str]) -> pa.Table:
    """The rows of data/raw/train.csv or test.csv: COLUMNS, as text, but for label, int8, which is an index of `labels`.

    Raises pyarrow.ArrowInvalid for an index above 127.
    """
    # large_string: the texts of a column may have more than 2 GiB in all
    rows = csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.large_string())),
    )
    numbers = pc.index_in(rows["label"], pa.array(labels, pa.large_string())).cast(pa.int8())
    return rows.set_column(COLUMNS.index("label"), "label", numbers)


def split(
    count: int, validation_fraction: float, seed: int, training_sentences: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split `count` sentences at random: the indices, int64, of the (training, validation) sentences.

    The number of training sentences is rounded down, as in the tutorial. With `training_sentences` there are only so
    many of them, and a smaller number's are among a larger one's. Raises UserError if either part would be empty, or
    there are fewer.
    """
    training = int(round((1 - validation_fraction) * count, 9))  # (1 - 0.8) * 10 is 1.9999999999999996
    if not 0 < training < count:
        raise UserError(f"{count} sentences cannot be split with tokenize.validation_fraction={validation_fraction}")
    if training_sentences and training_sentences > training:
        raise UserError(f"tokenize.training_sentences={training_sentences}: there are {training}")
    order = np.random.default_rng(seed).permutation(count)
    return order[: training_sentences or training], order[training:]
