"""The sentences in data/raw -> the tables of data/tokenized, in memory."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from cola.core import progress
from cola.core.params import Tokenize
from cola.data import corpus, encoding

CHUNK = 2**16  # sentences that are Python lists at the same time


def split_rows(training_file: pa.Table, test: pa.Table, settings: Tokenize, seed: int) -> dict[str, pa.Table]:
    """Return the rows of the splits (tables.SPLITS); test keeps its order. Raises UserError as corpus.split."""
    labels = training_file["label"].to_numpy()
    training, validation = corpus.split(labels, settings.validation_fraction, seed, settings.training_sentences)
    return {"train": training_file.take(training), "validation": training_file.take(validation), "test": test}


def find_absent_labels(rows: pa.Table, labels: Sequence[str]) -> list[str]:
    """Return the names in `labels` that no row has."""
    return [labels[number] for number in sorted(set(range(len(labels))) - set(rows["label"].unique().to_pylist()))]


def tokenize_splits(
    splits: Mapping[str, pa.Table], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, pa.Table]:
    """Add two columns: input_ids, truncated to `max_length` tokens, and length, the tokens before truncation."""
    tokenized = {}
    with progress.make_bar(sum(map(len, splits.values())), "sentences", "tokenize") as bar:
        for name, rows in splits.items():
            chunks = []
            for start in range(0, len(rows), CHUNK):
                chunks.append(_tokenize_chunk(rows.slice(start, CHUNK), tokenizer, max_length))
                bar.update(len(chunks[-1]))
            tokenized[name] = pa.concat_tables(chunks)
    return tokenized


def summarize(splits: Mapping[str, pa.Table], max_length: int, classes: int) -> dict[str, float | int]:
    """Return the content of metrics/corpus.json, from the columns label and length of the splits.

    longest_sentence and mean_length describe train and validation together, as in the tutorial. test_positives, the
    number of test sentences of class 1, is there for two classes only.
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


def _tokenize_chunk(rows: pa.Table, tokenizer: PreTrainedTokenizerBase, max_length: int) -> pa.Table:
    input_ids, lengths = encoding.encode(rows["sentence"].to_pylist(), tokenizer, max_length)
    rows = rows.append_column("input_ids", pa.array(input_ids, pa.list_(pa.int32())))
    return rows.append_column("length", pa.array(lengths, pa.int32()))
