"""The sentences in data/raw with their labels, and the split for validation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from cola.core.errors import UserError

COLUMNS = ("sentence_source", "label", "sentence")
# The longest row fits into a block: it has three fields of 2**22 characters (fetch's limit) of at most 4 bytes.
BLOCK_BYTES = 2**26


def read(path: Path, labels: Sequence[str]) -> pa.Table:
    """Read data/raw/train.csv or test.csv. Returns COLUMNS as text, except label: its index in `labels`.

    The index is int8, or a wider integer where int8 has too few numbers.
    """
    # large_string, because the texts of a column may have more than 2 GiB together
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
    """Split sentences at random, given their labels (sentences,). Returns two int64 arrays: training, validation.

    They have the sentences' indices. The number of training sentences is rounded down, as in the tutorial. Where a part
    would lack a label, the split is stratified: both parts have about the same share of a label, and the rarest labels
    are in training. `training_sentences` limits training; a smaller limit selects a subset of a larger one's sentences.
    Raises UserError if a part would be empty, or training has fewer sentences than the limit.
    """
    count = len(labels)
    training = int(round((1 - validation_fraction) * count, 9))  # (1 - 0.8) * 10 is 1.9999999999999996
    if not 0 < training < count:
        fault = f"{count} training sentences cannot be split with tokenize.validation_fraction={validation_fraction}"
        raise UserError(f"{fault}: set it to 0.5, or add sentences")
    if training_sentences and training_sentences > training:
        raise UserError(
            f"tokenize.training_sentences={training_sentences} exceeds the {training} that validation leaves: set it "
            "to null"
        )
    order = np.random.default_rng(seed).permutation(count)
    classes = len(np.unique(labels))
    if any(len(np.unique(labels[part])) < classes for part in (order[:training], order[training:])):
        order = _stratify(order, labels)
    return order[: training_sentences or training], order[training:]


def _stratify(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the same indices in an order that spreads the sentences of a label evenly."""
    by_label = order[np.argsort(labels[order], kind="stable")]
    _, first, counts = np.unique(labels[by_label], return_index=True, return_counts=True)
    numbers = np.arange(len(order)) - np.repeat(first, counts)  # a sentence's number among its label's sentences
    return by_label[np.argsort((numbers + 0.5) / np.repeat(counts, counts), kind="stable")]
