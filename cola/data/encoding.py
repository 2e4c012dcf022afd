"""The tokenizer: sentences -> token ids, and an encoder's limit on their number."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from cola.core import files
from cola.core.errors import UserError, join_lines

# In RoBERTa and its descendants, positions begin at pad_token_id + 1: 514 positions are enough for 512 tokens.
POSITIONS_FROM_PADDING = frozenset(
    "camembert data2vec-text esm ibert layoutlmv3 lilt longformer luke markuplm mpnet roberta roberta-prelayernorm "
    "xlm-roberta xlm-roberta-xl xmod".split()
)
# The files of any tokenizer. Its class names the others.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# A batch as the training sees it: token ids and their mask, with padding after a sentence.
BATCH_SETTINGS = {"padding_side": "right", "model_input_names": ["input_ids", "attention_mask"]}
UNKNOWN_SHARE = 0.5  # with more unknown tokens, the corpus is hardly in the encoder's language
_truncation = Lock()  # truncation is a state of the tokenizer, which two threads would change for each other


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer in `folder`; its model_max_length is the limit of the tokenizer and of the model beside it.

    A model's code is never run. Raises UserError where the tokenizer is missing or cannot be loaded.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **BATCH_SETTINGS
        )
        config = _load_config(folder)
        positions = read_max_tokens(config)
    except Exception as error:  # the libraries raise errors of any class
        raise UserError(f"{folder} has no tokenizer that can be loaded: {join_lines(error)}") from None
    limits = [limit for limit in (tokenizer.model_max_length, positions) if limit is not None and limit > 0]
    tokenizer.model_max_length = min(limits, default=VERY_LARGE_INTEGER)
    tokenizer.needs_one_end = config.is_encoder_decoder  # its classifier reads the end token's state
    return tokenizer


def read_max_tokens(config: PreTrainedConfig) -> int | None:
    """Return the number of tokens that an encoder has positions for; None if its positions are not absolute."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None or positions < 1:  # XLNet's is -1
        return None
    return positions - (config.pad_token_id or 0) - 1 if config.model_type in POSITIONS_FROM_PADDING else positions


def check_max_length(max_length: int, folder: Path) -> None:
    """Raise UserError where the encoder in `folder` has fewer positions than `max_length`.

    The tokenizer's model_max_length does not count: in a model of this pipeline, it is that training's max_length.
    """
    positions = read_max_tokens(_load_config(folder))
    if positions is not None and max_length > positions:
        raise UserError(f"tokenize.max_length is {max_length}, and this encoder takes at most {positions}")


def _load_config(folder: Path) -> PreTrainedConfig:
    config: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return config


def warn_of_unknown_tokens(input_ids: pa.ChunkedArray, tokenizer: PreTrainedTokenizerBase) -> None:
    """Print a line if the encoder does not know most tokens of a corpus; input_ids has a list per sentence."""
    tokens = pc.list_flatten(input_ids).to_numpy()
    special = [token for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id]
    words = tokens[~np.isin(tokens, special)]
    unknown = np.mean(words == tokenizer.unk_token_id) if len(words) else 0.0
    if unknown > UNKNOWN_SHARE:
        print(
            f"{unknown:.0%} of the corpus's tokens are unknown to the encoder ({tokenizer.unk_token}): "
            "choose an encoder of the corpus's language (fetch.encoder)"
        )


def copy_tokenizer(encoder: Path, folder: Path, max_length: int) -> None:
    """Copy the tokenizer's original files to a trained model: other versions of transformers can read them.

    transformers' pipelines then truncate at `max_length`, and make batches, as the training did.
    """
    names = {*load_tokenizer(encoder).vocab_files_names.values(), *TOKENIZER_FILES}
    for name in files.read_json(encoder / "source.json")["files"].keys() & names:
        shutil.copyfile(encoder / name, folder / name)
    config = folder / "tokenizer_config.json"
    settings = files.read_json(config) if config.exists() else {}
    files.write_json(config, settings | BATCH_SETTINGS | {"model_max_length": max_length})


def encode(
    sentences: Iterable[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[list[int]], np.ndarray]:
    """Turn sentences into token ids, special tokens included, truncated to `max_length` tokens.

    Returns (input_ids, lengths): a list of ids per sentence; the tokens before truncation, (sentences,) int64. Raises
    UserError for a sentence without tokens, and for one with an end token in it where the model needs a single one.
    """
    sentences = list(sentences)
    with _truncation:
        input_ids: list[list[int]] = tokenizer(
            sentences, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )["input_ids"]
        lengths = np.array([len(ids) for ids in input_ids])
        if not lengths.all():
            empty = sentences[int(lengths.argmin())][:40]
            raise UserError(f"the encoder's tokenizer makes no token of the sentence {empty!a}: remove it")
        if tokenizer.needs_one_end:
            end, number = tokenizer.eos_token, tokenizer.eos_token_id
            if unfit := [text for text, ids in zip(sentences, input_ids, strict=True) if ids.count(number) > 1]:
                sentence = unfit[0][:40]
                raise UserError(
                    f"the sentence {sentence!a} has {end} in it, this encoder's end of a text: remove {end}"
                )
        for index in np.flatnonzero(lengths > max_length):
            input_ids[index] = tokenizer(sentences[index], truncation=True, max_length=max_length)["input_ids"]
    return input_ids, lengths
