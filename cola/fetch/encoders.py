"""A user's encoder is copied; any encoder that was fetched is tried once."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from tokenizers import Tokenizer

from cola.core import paths
from cola.core.errors import UserError
from cola.fetch import checked
from cola.fetch.sources import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase  # imported where it is used: it takes seconds

CONFIGS = ("config.json", "tokenizer_config.json", "adapter_config.json")
QUANTIZED = "quantized weights, which cannot be fine-tuned: take the encoder it was made from"
SENTENCES = (
    "What did Nobody say?",
    "She isn't naïve: it costs $5.99 (or 6), he wrote.",
    "the book",
    "wait…\u00a0½  ﬁne \uff46ull cafe\u0301™ 日本語",  # tokenizers normalize these letters
)


def copy(name: str, folder: Path) -> Source:
    """Copy config.json, model.safetensors and the tokenizer's files of a user's folder. Returns their source.

    A relative folder is relative to the project's root, DVC_ROOT, also where DVC runs an experiment in a copy of the
    project. Prints how a later change gets into the project, for DVC does not watch the folder.
    Raises UserError, in one line, where a file is missing or cannot be used.
    """
    origin = paths.find_root() / os.path.expanduser(name)  # noqa: PTH111 - never raises
    if not origin.is_dir():
        raise UserError(f"fetch.encoder: {name} is no folder (params.yaml lists the values that it can have)")
    command = "dvc repro --force --downstream fetch@encoder"
    print(f"{name} is copied as it is now: after a change in it, run `{command}`")
    selected = [path for path in sorted(origin.iterdir()) if path.is_file() and checked.is_encoder_file(path.name)]
    for path in selected:
        with path.open("rb") as stream:
            is_pointer = stream.read(40).startswith(b"version https://git-lfs")
        if is_pointer:
            raise UserError(f"{name}/{path.name} is a pointer of git-lfs, not the file: run `git lfs pull` in {name}")
        check_config(name, path)
        shutil.copyfile(path, folder / path.name)
    for file in ("config.json", "model.safetensors"):
        if origin / file not in selected:
            raise UserError(f"{name} has no {file}; {checked.HOW_TO_SAVE}")
    rights = "not stated: the encoder is the user's own"
    return Source(origin.resolve().name, None, {}, license=rights, citation=rights)


def check_config(name: str, config: Path) -> None:
    """Raise UserError where one of CONFIGS is no JSON object, or is of an adapter, of code or of quantized weights.

    Any other file is fine: sentence-transformers' data_config.json is a list.
    """
    if config.name not in CONFIGS:
        return
    if config.name == "adapter_config.json":
        raise UserError(
            f"{name} has an adapter, which is not loaded here: merge it into the encoder (`merge_and_unload()`, then "
            f"`save_pretrained`), and remove {config.name}"
        )
    try:
        keys = dict(json.loads(config.read_bytes()))
    except (ValueError, TypeError):
        raise UserError(f"{name}: {config.name} is not a JSON object") from None
    if "auto_map" in keys:
        raise UserError(f"{name}: {config.name} has auto_map, code that is never run here: take another encoder")
    if keys.get("quantization_config"):
        raise UserError(f"{name} has {QUANTIZED}")


def try_out(name: str, folder: Path) -> None:
    """Load the encoder in `folder` and tokenize sentences, so that an unusable encoder ends here.

    `name` is the user's name for it. Prints a note about lost capitals. Raises UserError, in one line, if transformers
    cannot load the model or the tokenizer, or if they differ from their files; also for a token without an embedding
    and for padding without a token.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # takes seconds: only here
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # the checks below say it in one line
    remedy = "save it anew, or take another encoder"
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # its head may have another number of labels
        )
        _check_weights(name, folder, model, report)
        remedy = _suggest_for_tokenizer(name, folder)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        _check_files(name, folder, tokenizer)
        _check_ids(name, tokenizer, model.config)
        _print_lost_capitals(name, tokenizer)
    except UserError:
        raise
    except Exception as error:  # the libraries raise any class over a spoiled file
        reason = shorten(f"{type(error).__name__}: {error}".replace(str(folder), name), 300)
        raise UserError(f"{name} cannot be used: {reason}; {remedy}") from None


def _suggest_for_tokenizer(name: str, folder: Path) -> str:
    """Return the remedy if transformers cannot load the tokenizer in `folder`. Raises UserError if it surely cannot."""
    present = {path.name for path in folder.iterdir() if path.suffix != ".safetensors"}
    if all(file.endswith(("config.json", "tokens.json", "tokens_map.json")) for file in present):
        return "it has no tokenizer: add tokenizer.json"
    if "tokenizer.json" not in present:
        # transformers would name another package.
        if any(file.endswith(".model") for file in present) and find_spec("sentencepiece") is None:
            raise UserError(f"{name}: its .model file is sentencepiece's: run `pip install sentencepiece`")
        return "save its tokenizer anew"
    settings = '{"tokenizer_class": "PreTrainedTokenizerFast"}'
    return f"save its tokenizer anew, or, if tokenizer.json is right, write {settings} to tokenizer_config.json"


def _check_weights(name: str, folder: Path, model: Any, report: Mapping[str, Any]) -> None:
    """Raise UserError if the file lacks weights of the encoder or has integers. Print a note if some are left out.

    `report` is transformers' report of the loading. A pooler may be missing or left out: it belongs to a head.
    """
    prefix = f"{model.base_model_prefix}."
    parts = {weight.partition(".")[0] for weight in model.base_model.state_dict()} - {"pooler"}

    def select(weights: Iterable[str]) -> list[str]:
        return sorted(weight for weight in weights if weight.removeprefix(prefix).partition(".")[0] in parts)

    if absent := select([*report["missing_keys"], *(weight for weight, *_ in report["mismatched_keys"])]):
        raise UserError(
            f"{name}: model.safetensors does not fit config.json: {absent[0]} is missing or misshapen; save it as "
            f"transformers' {type(model.base_model).__name__}, or take another encoder"
        )
    with safe_open(folder / "model.safetensors", "pt") as file:
        if any(key.endswith("weight") and file.get_slice(key).get_dtype()[0] in "IU" for key in file.keys()):  # noqa: SIM118
            raise UserError(f"{name} has {QUANTIZED}")
    if unused := select(report["unexpected_keys"]):
        print(f"note: {name}: transformers leaves out {len(unused)} of the file's weights, such as {unused[0]}")


def _check_files(name: str, folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise UserError where a tokenizer differs from its files, or does not add the token that a classifier reads.

    transformers invents a tokenizer without files.
    """
    encoded = [tokenizer(sentence)["input_ids"] for sentence in SENTENCES]  # some fail only now
    if tokenizer.cls_token_id is not None and tokenizer.cls_token_id not in encoded[0]:
        raise UserError(
            f"{name}: its tokenizer does not add {tokenizer.cls_token}, which the classifier reads: save it with a "
            "post-processor that does"
        )
    if not (folder / "tokenizer.json").exists():
        names = [file for key, file in tokenizer.vocab_files_names.items() if key != "tokenizer_file"]
        if tokenizer.is_fast and not (names and all((folder / file).exists() for file in names)):
            raise UserError(f"{name} has no tokenizer: add {' and '.join(names)}, or tokenizer.json")
        return
    whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
    whole.no_truncation()
    whole.no_padding()
    for sentence, ids in zip(SENTENCES, encoded, strict=True):
        # Some files leave the special tokens to transformers.
        if whole.encode(sentence).ids not in (ids, tokenizer(sentence, add_special_tokens=False)["input_ids"]):
            special = {key: token for key, token in tokenizer.special_tokens_map.items() if token in whole.get_vocab()}
            settings = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | special)
            raise UserError(
                f"{name}: transformers' {type(tokenizer).__name__} does not tokenize as tokenizer.json does "
                f"({sentence!r}): write {settings} to tokenizer_config.json"
            )


def _check_ids(name: str, tokenizer: "PreTrainedTokenizerBase", config: Any) -> None:
    """Raise UserError where a token has no embedding, most embeddings have no token, or padding has no id."""
    tokens, embeddings = max(tokenizer.get_vocab().values()) + 1, getattr(config, "vocab_size", None)
    if embeddings is not None and not embeddings / 2 <= tokens <= embeddings:
        raise UserError(
            f"{name}: its tokenizer knows {tokens:,} tokens, and config.json says {embeddings:,} (vocab_size): "
            "take the tokenizer that the encoder was pretrained with, or, if that is this one, save the encoder again "
            f"after `resize_token_embeddings({tokens})`"
        )
    stated = getattr(config, "pad_token_id", None)
    if stated is None or stated != tokenizer.pad_token_id:
        usual = [tokenizer.pad_token, "[PAD]", "<pad>", tokenizer.eos_token, tokenizer.unk_token]
        padding = next((token for token in usual if token in tokenizer.get_vocab()), None)
        raise UserError(
            f"{name}: {config.model_type} needs the same padding token in its tokenizer and in config.json: write "
            f"{json.dumps({'pad_token': padding})} to tokenizer_config.json, and "
            f"{json.dumps({'pad_token_id': tokenizer.convert_tokens_to_ids(padding or '')})} to config.json"
        )


def _print_lost_capitals(name: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Print a note where a tokenizer never uses the words with capitals in its vocabulary."""
    words = sorted(tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens))
    capitals = [word for word in words if word != word.lower() and not word.startswith(("[", "<"))]
    text = " ".join(capitals[:100])
    if len(capitals) > len(words) / 100 and tokenizer.tokenize(text) == tokenizer.tokenize(text.lower()):
        print(
            f"{name}: {len(capitals):,} words of its vocabulary have capitals, and its tokenizer makes all letters "
            'small: write {"do_lower_case": false} to tokenizer_config.json'
        )
