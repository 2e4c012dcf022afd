"""The sentences that fetch left in data/raw, with their labels; and the split for validation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from cola.core.errors import UserError

COLUMNS = ("sentence_source", "label", "sentence")
# Read together. A row of three fields as long as fetch takes, 2**22 characters of at most 4 bytes each, fits in.
BLOCK_BYTES = 2**26


def read(path: Path, labels: Sequence[str]) -> pa.Table:
    """The rows of data/raw/train.csv or test.csv: COLUMNS, as text, but for label, which is an index of `labels`.

    An index is int8, or a wider integer where there are more labels than int8 has numbers.
    """
    # large_string: the texts of a column may have more than 2 GiB in all
    rows = csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.large_string())),
    )
    narrowest = pa.from_numpy_dtype(np.min_scalar_type(-len(labels)))
    numbers = pc.index_in(rows["label"], pa.array(labels, pa.large_string())).cast(narrowest)
    return rows.set_column(COLUMNS.index("label"), "label", numbers)


def split(
    labels: np.ndarray, validation_fraction: float, seed: int, training_sentences: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split sentences at random, given their labels: the indices, int64, of the (training, validation) sentences.

    The number of training sentences is rounded down, as in the tutorial. Where a part would lack a label, the split is
    stratified: both parts have about the same share of a label, and a label that is too rare for that is in training.
    With `training_sentences` only so many are taken, and a smaller number's are among a larger one's. Raises UserError
    if either part would be empty, or training has fewer.
    """
    count = len(labels)
    training = int(round((1 - validation_fraction) * count, 9))  # (1 - 0.8) * 10 is 1.9999999999999996
    if not 0 < training < count:
        fault = f"{count} training sentences cannot be split with tokenize.validation_fraction={validation_fraction}"
        raise UserError(f"{fault}: set it to 0.5, or add sentences")
    if training_sentences and training_sentences > training:
        raise UserError(f"tokenize.training_sentences={training_sentences}, and there are {training}: set it to null")
    order = np.random.default_rng(seed).permutation(count)
    classes = len(np.unique(labels))
    if any(len(np.unique(labels[part])) < classes for part in (order[:training], order[training:])):
        order = _stratify(order, labels)
    return order[: training_sentences or training], order[training:]


def _stratify(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The same indices in an order in which the sentences of each label are spread evenly."""
    by_label = order[np.argsort(labels[order], kind="stable")]
    _, first, counts = np.unique(labels[by_label], return_index=True, return_counts=True)
    numbers = np.arange(len(order)) - np.repeat(first, counts)  # of a sentence among those of its label
    return by_label[np.argsort((numbers + 0.5) / np.repeat(counts, counts), kind="stable")]
