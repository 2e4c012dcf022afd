"""The Hugging Face Hub, or another Hub that HF_ENDPOINT names: a model's files at a commit, and their hashes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors

from cola.core import progress
from cola.core.errors import UserError
from cola.fetch import checked
from cola.fetch.sources import File
from cola.fetch.transfers import ProviderError, describe, hide_password

WEIGHTS = "model.safetensors"


def get_host() -> str:
    """The name of the Hub in messages."""
    return re.sub("^.*//|/.*$", "", hide_password(constants.ENDPOINT))


@contextmanager
def _raise_provider_errors() -> Iterator[None]:
    """Raise an error of the Hub's library, of whatever class, as ProviderError."""
    try:
        yield
    except (ProviderError, UserError):
        raise
    except Exception as error:
        if isinstance(error, errors.LocalEntryNotFoundError | ValueError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        raise ProviderError(f"{get_host()}: {_describe(error)}") from None


@_raise_provider_errors()
def fetch_file(name: str, revision: str, file: str, expected: File) -> Path:
    """The path of a file in the Hub's cache, after a download where the cache has not the expected file.

    The caller checks the file: the Hub may send another. Raises ProviderError.
    """
    cached = huggingface_hub.try_to_load_from_cache(name, file, revision=revision)
    if isinstance(cached, str):
        if checked.is_expected(Path(cached), expected):
            return Path(cached)
        print(f"{Path(cached).resolve()} is not the expected file: it is downloaded again")
    try:  # hf_hub_download retries for 23 s where the Hub does not answer; this request fails at once
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(name, file, revision=revision))
    except errors.HfHubHTTPError as error:
        if error.response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
    with progress.make_bar(expected.bytes, "B", file) as bar:
        options: dict[str, Any] = {"force_download": isinstance(cached, str), "tqdm_class": lambda **_: bar}
        return Path(huggingface_hub.hf_hub_download(name, file, revision=revision, **options))


@_raise_provider_errors()
def list_files(name: str, revision: str) -> dict[str, File]:
    """An encoder's files, the weights last, with the sizes and hashes that the Hub states.

    If the Hub does not answer, they come from its cache, which names a file by the hash that the Hub stated.
    Raises UserError where the repository lacks the config or safetensors, ProviderError where the cache lacks them.
    """
    try:
        stated = _ask_for_files(name, revision)
    except ProviderError as error:
        stated = _list_cached_files(name, revision)
        if WEIGHTS not in stated:
            raise
        print(f"{error}; the files of {name} are those of the Hub's cache")
    if not {"config.json", WEIGHTS} <= stated.keys():
        raise UserError(f"{name} at {revision} lacks config.json or {WEIGHTS}; {checked.HOW_TO_SAVE}")
    return {file: stated[file] for file in sorted(stated, key=lambda file: (file == WEIGHTS, file))}


@_raise_provider_errors()
def _ask_for_files(name: str, revision: str) -> dict[str, File]:
    """An encoder's files as the Hub states them. Raises ProviderError."""
    seconds = constants.HF_HUB_ETAG_TIMEOUT  # without it the library waits for ever
    info = huggingface_hub.HfApi().model_info(name, revision=revision, files_metadata=True, timeout=seconds)
    stated = {}
    for sibling in info.siblings or []:
        if checked.is_encoder_file(sibling.rfilename):
            in_git = File(str(sibling.blob_id), sibling.size or 0)
            stated[sibling.rfilename] = File(sibling.lfs.sha256, sibling.lfs.size) if sibling.lfs else in_git
    return stated


def _list_cached_files(name: str, revision: str) -> dict[str, File]:
    """An encoder's files in the Hub's cache: links to files whose names are their hashes."""
    config = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
    cached = sorted(Path(config).parent.iterdir()) if isinstance(config, str) else []
    cached = [path for path in cached if checked.is_encoder_file(path.name) and path.is_file()]
    return {path.name: File(path.resolve().name, path.stat().st_size) for path in cached}


def _describe(error: Exception) -> str:
    """An error of the Hub in a few words, with a remedy."""
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, errors.GatedRepoError):
        return "HTTP 403: the encoder is gated: accept its terms on its page, and set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return "HTTP 404: no such commit: correct fetch.encoder_revision"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
        return f"HTTP {status}: no such encoder, or a private one: correct fetch.encoder, or renew or unset HF_TOKEN"
    return describe(error)
