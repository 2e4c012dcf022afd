"""Sentences -> token ids."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from cola.core.errors import UserError


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to the encoder in `folder`; its model_max_length is what both can take, in tokens.

    Never runs code that comes with a model. Raises UserError where the folder has none that can be loaded.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no tokenizer that can be loaded: {' '.join(str(error).split())}") from None
    if hasattr(config, "max_position_embeddings"):  # not of encoders with relative positions
        tokenizer.model_max_length = min(tokenizer.model_max_length, config.max_position_embeddings)
    return tokenizer


def check_max_length(max_length: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError where `max_length` is more than the encoder takes."""
    if max_length > tokenizer.model_max_length:
        raise UserError(
            f"tokenize.max_length is {max_length}, and this encoder takes at most {tokenizer.model_max_length}"
        )


def encode(
    sentences: Iterable[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[list[int]], np.ndarray]:
    """Token ids of each sentence, special tokens included, cut to `max_length` tokens.

    Returns (input_ids, lengths): lengths (sentences,) counts each sentence's tokens before the cut.
    """
    sentences = list(sentences)
    input_ids: list[list[int]] = tokenizer(
        sentences, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )["input_ids"]
    lengths = np.array([len(ids) for ids in input_ids])
    for index in np.flatnonzero(lengths > max_length):
        input_ids[index] = tokenizer(sentences[index], truncation=True, max_length=max_length)["input_ids"]
    return input_ids, lengths
