"""Sentences -> token ids, and how many of them an encoder takes."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from cola.core.errors import UserError

# In RoBERTa and the models made from it, positions begin at pad_token_id + 1: 514 of them are enough for 512 tokens.
POSITIONS_FROM_PADDING = frozenset(
    "camembert data2vec-text esm ibert layoutlmv3 lilt longformer luke markuplm mpnet roberta roberta-prelayernorm "
    "xlm-roberta xlm-roberta-xl xmod".split()
)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of the encoder in `folder`; its model_max_length is the most tokens that both of them take.

    Code that comes with a model is never run. Raises UserError where the folder has no tokenizer that can be loaded.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no tokenizer that can be loaded: {' '.join(str(error).split())}") from None
    positions = max_tokens(config)
    if positions is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return tokenizer


def max_tokens(config: PreTrainedConfig) -> int | None:
    """The most tokens that an encoder has positions for; None for one without absolute positions."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in POSITIONS_FROM_PADDING:
        return positions - config.pad_token_id - 1
    return positions


def check_max_length(max_length: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError where `max_length` is more than the encoder takes."""
    if max_length > tokenizer.model_max_length:
        raise UserError(
            f"tokenize.max_length is {max_length}, and this encoder takes at most {tokenizer.model_max_length}"
        )


def encode(
    sentences: Iterable[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[list[int]], np.ndarray]:
    """The token ids of sentences, special tokens included, cut to `max_length` tokens.

    Returns (input_ids, lengths): a list of ids per sentence; the tokens before the cut, (sentences,) int64.
    """
    sentences = list(sentences)
    input_ids: list[list[int]] = tokenizer(
        sentences, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )["input_ids"]
    lengths = np.array([len(ids) for ids in input_ids])
    for index in np.flatnonzero(lengths > max_length):
        input_ids[index] = tokenizer(sentences[index], truncation=True, max_length=max_length)["input_ids"]
    return input_ids, lengths
