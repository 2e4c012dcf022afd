"""A BERT small enough to train in a test: two layers, 16 wide, over a vocabulary of 40 words."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, BertConfig, BertModel, PreTrainedConfig, PreTrainedTokenizerFast

from cola.core.params import Train
from cola.data import tables
from cola.data.tables import Sentences

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"word{number}" for number in range(35)]
RECIPE = Train(
    epochs=2,
    batch_size=8,
    learning_rate=1e-3,
    adam_epsilon=1e-8,
    weight_decay=0.0,
    max_grad_norm=0.5,  # low enough to clip some of the steps
    pretrained=True,
    frozen_layers=0,
    class_weights=None,
    max_steps=None,
    early_stopping=None,
    micro_batch_tokens=None,
    processes=1,
    fast=True,
)


def config(**changes):
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return BertConfig(**sizes | {"intermediate_size": 24, "max_position_embeddings": 64, "pad_token_id": 0} | changes)


def configure(family: str, heads: int = 2, size: int = 8, layers: int = 2, inner: int = 24) -> PreTrainedConfig:
    """Return the configuration of a small encoder of a family of cola.model.families; heads are `size` wide."""
    # The tests' sentences have up to 70 tokens, and RoBERTa's positions start at 2.
    sizes: dict[str, Any] = {"vocab_size": 50, "max_position_embeddings": 80, "pad_token_id": 1}
    if family == "distilbert":  # has different names for the sizes
        return AutoConfig.for_model(family, **sizes, dim=heads * size, n_heads=heads, n_layers=layers, hidden_dim=inner)
    sizes |= {"hidden_size": heads * size, "num_attention_heads": heads, "num_hidden_layers": layers}
    sizes |= {"intermediate_size": inner}
    if family == "modernbert":  # every third layer attends to all tokens, the rest to 8 on each side
        sizes |= {"local_attention": 16, "global_attn_every_n_layers": 3, "classifier_pooling": "mean"}
        sizes |= {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    if family in ("albert", "electra"):  # whose embeddings may be narrower than the layers
        sizes |= {"embedding_size": heads * size // 2 + 1}
    return AutoConfig.for_model(family, **sizes)


def encoder(folder: Path, **changes) -> Path:
    """Write an encoder as fetch does: config.json, model.safetensors, vocab.txt; return its folder."""
    torch.manual_seed(1)
    BertModel(config(**changes)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + WORDS) + "\n")
    return folder


def make_word_tokenizer(lowercase: bool = True, padding: int = 0) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the same words and BERT's special tokens, which is saved in one file, tokenizer.json.

    [PAD] has the id `padding`, 0 or 1, and [UNK] the other.
    """
    words = {word: number for number, word in enumerate(SPECIAL + WORDS)} | {"[PAD]": padding, "[UNK]": 1 - padding}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def sentences(count: int, seed: int = 0) -> pd.DataFrame:
    """Return tokenized sentences of 1 to 12 words; the label is 1 if the first word is in the upper half of WORDS."""
    rng = np.random.default_rng(seed)
    input_ids = [np.r_[2, rng.integers(5, 40, rng.integers(1, 13)), 3].astype(np.int32) for _ in range(count)]
    return pd.DataFrame(
        {
            "sentence_source": "tiny",
            "label": [int(ids[1] >= 22) for ids in input_ids],
            "sentence": [" ".join((SPECIAL + WORDS)[token] for token in ids[1:-1]) for ids in input_ids],
            "input_ids": input_ids,
        }
    )


def arrow(frame: pd.DataFrame) -> pa.Table:
    """Return a frame of `sentences` as an Arrow table."""
    return pa.Table.from_pandas(frame, schema=tables.SCHEMA, preserve_index=False)


def to_train_on(frame: pd.DataFrame) -> Sentences:
    """Return a frame of `sentences` as a training reads it."""
    return Sentences(frame["input_ids"].to_list(), frame["label"].to_numpy(np.int64, copy=True))
