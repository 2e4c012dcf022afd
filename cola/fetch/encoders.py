"""What an encoder is: the files that are taken from a user's folder, and one trial of what fetch has fetched."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from cola.core.errors import UserError
from cola.fetch.custom import find_folder
from cola.fetch.sources import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase  # imported where it is used: it takes seconds

REQUIRED = ("config.json", "model.safetensors")
# The names that the tokenizers of transformers give their files. On the Hub no class can be asked before they are here.
TOKENIZER_FILES = re.compile(
    r"(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|entity_vocab|emoji|byte_maps)\.json"
    r"|(vocab|merges|dict)\.txt|[^/\\]+\.(model|codes|tiktoken|tokenizer)"
)
LFS_POINTER = b"version https://git-lfs"
SENTENCES = ("What did Nobody say?", "She isn't naïve: it costs $5.99 (or 6), he wrote.", "the book")


def copy(name: str, folder: Path) -> Source:
    """Copy config.json, model.safetensors and the tokenizer's files of a user's own folder. Returns their source.

    Raises UserError, in one line, where one is missing or is no such file, and as check_config.
    """
    origin = find_folder(name, "fetch.encoder")
    for file in REQUIRED:
        if not (origin / file).is_file():
            raise UserError(f"{name} has no {file} (weights must be in one file; pickles are never loaded)")
    known = {path.name for path in origin.iterdir() if path.name in REQUIRED or TOKENIZER_FILES.fullmatch(path.name)}
    for file in sorted(known):
        with (origin / file).open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                raise UserError(f"{name}/{file} is a pointer of git-lfs, not the file: run `git lfs pull` in {name}")
        if file.endswith("config.json"):
            check_config(name, origin / file)
    tokenizer = _load_tokenizer(name, origin)
    for file in sorted(known.union(tokenizer.vocab_files_names.values())):
        if (origin / file).is_file():
            shutil.copyfile(origin / file, folder / file)
    if _encode(name, tokenizer) != _encode(name, _load_tokenizer(name, folder)):
        raise UserError(f"{name}: its tokenizer reads other files than {', '.join(sorted(known))}: save it anew, there")
    rights = "not stated: the encoder is the user's own"
    return Source(origin.resolve().name, None, {}, license=rights, citation=rights)


def check_config(name: str, config: Path) -> None:
    """Raise UserError where a config file is no JSON object, names Python code to be run, or has weights quantized."""
    try:
        keys = dict(json.loads(config.read_bytes()))
    except (ValueError, TypeError):
        raise UserError(f"{name}: {config.name} is not a JSON object") from None
    if "auto_map" in keys:
        raise UserError(
            f"{name}: {config.name} has auto_map, code of its own, which is never run: take another encoder"
        )
    if keys.get("quantization_config"):
        raise UserError(f"{name} has quantized weights, which cannot be fine-tuned: take the encoder it was made from")


def try_out(name: str, folder: Path) -> None:
    """Load the encoder in `folder` and tokenize sentences, so that what cannot be used ends here; `name` is the user's.

    Prints where words with capitals are lost. Raises UserError, in one line, where the library cannot load the
    tokenizer or the model, where its tokenizer is not that of its files, and where tokens lack an id or an embedding.
    """
    from transformers import AutoModelForSequenceClassification  # takes seconds: only here
    from transformers.utils import logging

    logging.set_verbosity_error()  # what it would say is said below, or by the training
    logging.disable_progress_bar()
    tokenizer = _load_tokenizer(name, folder)
    _check_files(name, folder, tokenizer)
    with _name_errors(f"{name}: its model cannot be loaded"):
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # of a head for other labels
        )
    _check_ids(name, tokenizer, model.config)
    _name_lost_capitals(name, tokenizer)


def _load_tokenizer(name: str, folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    hint = ""
    if find_spec("sentencepiece") is None and list(folder.glob("*.model")) and not (folder / "tokenizer.json").exists():
        hint = " without the package sentencepiece (`pip install sentencepiece`, or save tokenizer.json beside it)"
    with _name_errors(f"{name}: its tokenizer cannot be loaded{hint}"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    return tokenizer


def _encode(name: str, tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """The token ids of SENTENCES. Some tokenizers tell only here that their files are of no use."""
    with _name_errors(f"{name}: its tokenizer cannot tokenize"):
        return [tokenizer(sentence)["input_ids"] for sentence in SENTENCES]


def _check_files(name: str, folder: Path, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise UserError where a tokenizer is not what its files say: transformers invents what it lacks."""
    names = {key: file for key, file in tokenizer.vocab_files_names.items() if key != "tokenizer_file"}
    file = folder / "tokenizer.json"
    if not file.exists():
        missing = [name for name in names.values() if not (folder / name).exists()]
        if tokenizer.is_fast and (missing or not names):
            raise UserError(f"{name} has no tokenizer: put {' and '.join([*names.values()])} there, or tokenizer.json")
        return
    with _name_errors(f"{name}: its tokenizer.json cannot be loaded"):
        whole = Tokenizer.from_file(str(file))
    whole.no_truncation()
    whole.no_padding()
    for sentence in SENTENCES:
        # A file may leave it to transformers to add the special tokens.
        ids = whole.encode(sentence).ids
        if not any(ids == tokenizer(sentence, add_special_tokens=add)["input_ids"] for add in (True, False)):
            settings = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | tokenizer.special_tokens_map)
            raise UserError(
                f"{name}: transformers' {type(tokenizer).__name__} does not tokenize as tokenizer.json does "
                f"({sentence!r}): write {settings} to tokenizer_config.json"
            )


def _check_ids(name: str, tokenizer: "PreTrainedTokenizerBase", config: Any) -> None:
    """Raise UserError where a token has no embedding, where most embeddings have no token, or padding has no id."""
    tokens, embeddings = len(tokenizer), getattr(config, "vocab_size", None)
    if embeddings is not None and not embeddings / 2 <= tokens <= embeddings:
        raise UserError(
            f"{name}: its tokenizer knows {tokens:,} tokens, and config.json says {embeddings:,} (vocab_size): "
            "take the tokenizer that the encoder was pretrained with"
        )
    stated = getattr(config, "pad_token_id", None)
    if stated is None or stated != tokenizer.pad_token_id:
        padding = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
        raise UserError(
            f"{name}: {config.model_type} has no padding token in which tokenizer and config.json agree: write "
            f"{json.dumps({'pad_token': padding})} to tokenizer_config.json, and "
            f"{json.dumps({'pad_token_id': tokenizer.convert_tokens_to_ids(padding)})} to config.json"
        )


def _name_lost_capitals(name: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Print where a vocabulary has words with capitals and its tokenizer makes all letters small."""
    words = sorted(tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens))
    capitals = [word for word in words if re.fullmatch(r"[^\[<]*[A-Z].*", word)]
    lost = [word for word in capitals[:100] if tokenizer.tokenize(word) == tokenizer.tokenize(word.lower())]
    if len(capitals) > len(words) / 100 and len(lost) > len(capitals[:100]) / 2:
        print(
            f"{name}: {len(capitals):,} words of its vocabulary have capitals, and its tokenizer makes all letters "
            'small: put {"do_lower_case": false} in tokenizer_config.json'
        )


@contextmanager
def _name_errors(fault: str) -> Iterator[None]:
    """Raise whatever a library raises while it reads an encoder's files as a UserError: it may be of any class."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{fault}: {' '.join(f'{type(error).__name__}: {error}'.split())}") from None
