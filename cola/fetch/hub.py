"""The Hugging Face Hub, or another Hub that HF_ENDPOINT names: a model's files at a commit, and their hashes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors

from cola.core.errors import UserError
from cola.fetch import checked
from cola.fetch.sources import File
from cola.fetch.transfers import ProviderError, WrongFileError, describe, hide_password, watch

WEIGHTS = "model.safetensors"
MOST_BYTES = 100_000_000  # of a tokenizer's file
CHUNK_BYTES = 1 << 20  # after which the Hub's library moves its progress bar: its own 10 MB are minutes of a slow line


def host() -> str:
    """The name of the Hub in messages."""
    return re.sub("^.*//|/.*$", "", hide_password(constants.ENDPOINT))


def get_path(name: str, revision: str, file: str, expected: File) -> Path:
    """Where the Hub's cache has a file, downloaded if need be: not the expected one if the Hub sends another.

    Raises ProviderError.
    """
    path = _download(name, revision, file, expected)
    if not checked.is_expected(path, expected):  # the library takes whatever its cache has for the right file
        print(f"{path.resolve()} is not the expected file: it is downloaded again")
        path = _download(name, revision, file, expected, again=True)
    return path


def get_stated_files(name: str, revision: str) -> dict[str, File]:
    """An encoder's files, the weights last, with the sizes and hashes that the Hub states.

    Where the Hub does not tell, they are those of its cache, which calls each file by the hash that the Hub stated.
    Raises UserError where the repository lacks the config or safetensors, ProviderError where the cache lacks them.
    """
    try:
        stated = _ask_for_files(name, revision)
    except ProviderError as error:
        with _told_errors(name, revision):
            stated = _find_cached_files(name, revision)
        if WEIGHTS not in stated:
            raise
        print(f"{error}; the files of {name} are those of the Hub's cache")
    if not {"config.json", WEIGHTS} <= stated.keys():
        raise UserError(f"{name} at {revision} lacks config.json or {WEIGHTS}; pickles are never loaded")
    return {file: stated[file] for file in sorted(stated, key=lambda file: (file == WEIGHTS, file))}


def _download(name: str, revision: str, file: str, expected: File, again: bool = False) -> Path:
    """Where the Hub's cache has a file, which is downloaded if it lacks it, or `again`. Raises ProviderError."""
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    with _told_errors(name, revision), watch(host(), file, expected.bytes) as bar:
        if again or not isinstance(huggingface_hub.try_to_load_from_cache(name, file, revision=revision), str):
            _ask_once(huggingface_hub.hf_hub_url(name, file, revision=revision))
        options: dict[str, Any] = {"force_download": again, "tqdm_class": lambda **_: bar}
        return Path(huggingface_hub.hf_hub_download(name, file, revision=revision, **options))


def _ask_for_files(name: str, revision: str) -> dict[str, File]:
    """The files of an encoder as the Hub states them. Raises ProviderError."""
    with _told_errors(name, revision), watch(host(), f"the files of {name}", None):
        seconds = constants.HF_HUB_ETAG_TIMEOUT  # else the library waits for ever
        info = huggingface_hub.HfApi().model_info(name, revision=revision, files_metadata=True, timeout=seconds)
    stated = {}
    for sibling in info.siblings or []:
        file, size, lfs = sibling.rfilename, sibling.size or 0, sibling.lfs
        if checked.is_encoder_file(file) and (file == WEIGHTS or size <= MOST_BYTES):
            stated[file] = File(lfs.sha256, lfs.size) if lfs else File(str(sibling.blob_id), size)
    return stated


def _find_cached_files(name: str, revision: str) -> dict[str, File]:
    """The files of an encoder in the Hub's cache: links to files whose names are their hashes."""
    config = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
    cached = sorted(Path(config).parent.iterdir()) if isinstance(config, str) else []
    cached = [path for path in cached if checked.is_encoder_file(path.name) and path.is_file()]
    return {path.name: File(path.resolve().name, path.stat().st_size) for path in cached}


def _ask_once(url: str) -> None:
    """Raise what the Hub answers for good. Where nothing answers, the library's download would ask for 23 seconds."""
    try:
        huggingface_hub.get_hf_file_metadata(url)
    except errors.HfHubHTTPError as error:
        if error.response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise


@contextmanager
def _told_errors(name: str, revision: str) -> Iterator[None]:
    """Raise the errors of the Hub's library, of whatever class, as ProviderError, in a few words."""
    try:
        yield
    except (ProviderError, WrongFileError):
        raise
    except Exception as error:
        if isinstance(error, errors.LocalEntryNotFoundError | ValueError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        raise ProviderError(f"{host()}: {_describe(error, name, revision)}") from None


def _describe(error: Exception, name: str, revision: str) -> str:
    """What an error of the Hub means, and what to do."""
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
        return describe(error)
    if isinstance(error, errors.GatedRepoError):
        meaning = f"{name} is gated: accept its terms on its page, and set HF_TOKEN"
    elif isinstance(error, errors.RevisionNotFoundError):
        meaning = f"{name} has no commit {revision}: correct fetch.encoder_revision"
    elif status == HTTPStatus.UNAUTHORIZED and huggingface_hub.get_token():
        meaning = "the token is not accepted: renew or unset HF_TOKEN (or `hf auth logout`)"
    else:
        meaning = f"no {name}, or a private one: correct fetch.encoder, or set HF_TOKEN to a token that may read it"
    return f"HTTP {status}: {meaning}"
