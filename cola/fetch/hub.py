"""The Hugging Face Hub, or another Hub that HF_ENDPOINT names: a model's files at a commit, and their hashes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2  # huggingface_hub's HTTP client, whose errors it lets through
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from cola.core.errors import UserError
from cola.fetch import custom
from cola.fetch.checked import ProviderError
from cola.fetch.sources import File

HOST = urlsplit(constants.ENDPOINT).hostname or "the Hub"
# RuntimeError: of the Hub's storage, Xet. The last three: what an answer that is not the Hub's does to its library.
_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, OSError, RuntimeError, ValueError, KeyError, TypeError)


def local_path(name: str, revision: str, file: str) -> Path:
    """Where the Hub's cache has a file, which is downloaded if need be; its bytes are not checked.

    Raises ProviderError.
    """
    with _hub_errors():
        if not isinstance(try_to_load_from_cache(name, file, revision=revision), str):
            # Where nothing answers, hf_hub_download retries for 23 seconds; this one request tells at once.
            with suppress(HfHubHTTPError):  # something answers: the library knows which answers are worth a retry
                get_hf_file_metadata(hf_hub_url(name, file, revision=revision))
        return Path(hf_hub_download(name, file, revision=revision))


def stated_files(name: str, revision: str) -> dict[str, File]:
    """An encoder's config, its tokenizer's files and last its weights, with the sizes and hashes that the Hub states.

    Raises UserError where the repository lacks the config or safetensors, ProviderError where the Hub does not tell.
    """
    with _hub_errors():
        seconds = constants.HF_HUB_ETAG_TIMEOUT  # else the library waits for ever
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=seconds)
    repository = {file.rfilename: file for file in info.siblings or []}
    if not {"config.json", "model.safetensors"} <= repository.keys():
        raise UserError(f"{name} at {revision} lacks config.json or model.safetensors; pickles are never loaded")
    stated = {}
    for file in ["config.json", *sorted(filter(custom.TOKENIZER_FILES.fullmatch, repository)), "model.safetensors"]:
        size, lfs = repository[file].size or 0, repository[file].lfs
        stated[file] = File(lfs.sha256, lfs.size) if lfs else File(str(repository[file].blob_id), size)
    return stated


@contextmanager
def _hub_errors() -> Iterator[None]:
    """Raise the errors of the Hub's library as ProviderError, in a few words."""
    try:
        yield
    except _ERRORS as error:
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
        raise ProviderError(f"{HOST}: {_reason(cause or error)}") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "its certificate is not trusted"
    if isinstance(error, httpx2.TransportError):
        return "no connection"
    return " ".join(str(error).split())
