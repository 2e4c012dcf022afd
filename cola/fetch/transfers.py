"""What providers of files share: how they fail, what a library of the network means, and a watch over their transfers.

A provider is a mirror, a host, the Hub or pip.
"""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2  # huggingface_hub's HTTP client
import requests  # pooch's
from tqdm import tqdm

from cola.core import progress
from cola.core.errors import UserError, one_line

WATCH_SECONDS = 1.0  # between two looks at a transfer
PATIENCE = 120  # so many looks at a transfer that does not move


class ProviderError(Exception):
    """A provider lacks a file or cannot be reached; the message says which provider, and why."""


class WrongFileError(UserError):
    """A provider has another file than the expected one; the message says which."""


@contextmanager
def watch(provider: str, name: str, total: int | None, size: Callable[[], int] | None = None) -> "Iterator[tqdm[Any]]":
    """Yield the progress bar of a transfer of `total` bytes. It needs the main thread, whose alarm it takes.

    `size` tells how many bytes have arrived; without it, the block updates the bar. Raises WrongFileError, wherever
    the block waits, after more than `total` bytes, and ProviderError after two minutes without one. A server that
    sends a byte from time to time would hold a stage for ever, for its libraries wait anew after each byte.
    """
    with progress.bar(total, "B", name) as bar:
        waited, before = 0, bar.n

        def look(*_: object) -> None:
            nonlocal waited, before
            bar.update(size() - bar.n if size else 0)
            if total is not None and bar.n > total:
                raise WrongFileError(f"{provider}: {name} is refused: it has more than the expected {total} bytes")
            waited, before = waited + 1 if bar.n == before else 0, bar.n
            if waited >= PATIENCE:
                raise ProviderError(f"{provider}: no answer in time")

        handler = signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, WATCH_SECONDS, WATCH_SECONDS)
        try:
            yield bar
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
        bar.update(total - bar.n if total else 0)


def describe(error: Exception) -> str:
    """What an error of requests, of httpx or of pip means, in a few words."""
    text = one_line(error) or type(error).__name__
    proxies = [name for name in os.environ if name.lower() in ("all_proxy", "http_proxy", "https_proxy")]
    shown = " and ".join(f"{name} ({hide_password(os.environ[name])})" for name in proxies if os.environ[name])
    proxy = f"the proxy that {shown or 'the system'} names"
    if (response := getattr(error, "response", None)) is not None:
        return f"HTTP {response.status_code}"
    if "SOCKS" in text or "scheme for proxy" in text:
        return f"{proxy} needs socks5:// and `pip install socksio PySocks`"
    if isinstance(error, requests.Timeout | httpx2.TimeoutException) or "timed out" in text:
        return "no answer in time"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "connection cut"
    if isinstance(error, requests.ConnectionError | httpx2.TransportError) or "connection broken by" in text:
        return "no connection" + (f", by {proxy}" if shown else "")
    return "no valid URL: in a password, / is written %2F, and @ %40" if _has_password(text) else text


def hide_password(url: str) -> str:
    """The URL without the user's name and password."""
    return re.sub("//.*@", "//", url, flags=re.DOTALL)


def _has_password(text: str) -> bool:
    """Whether a word of the text is a word of a user's name or password, in any URL of the environment."""
    secrets = " ".join(match[1] for value in os.environ.values() if (match := re.search("//(.*)@", value, re.DOTALL)))
    return bool(set(re.findall(r"\w+", secrets)) & set(re.findall(r"\w+", text)))
