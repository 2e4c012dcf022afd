"""How a provider of files (the mirror, a host, the Hub, pip) fails, in a few words."""

import os
import re

import httpx2  # huggingface_hub's HTTP client
import requests  # pooch's

from cola.core.errors import UserError, hide_passwords, join_lines

URL_VARIABLES = ("COLA_MIRROR", "HF_ENDPOINT", "PIP_", "UV_")  # beginnings of variables that may hold a password
PROXIES = ("all_proxy", "http_proxy", "https_proxy")


class ProviderError(Exception):
    """A provider lacks a file or cannot be reached; the message names the provider and the reason."""


class WrongFileError(UserError):
    """A provider has another file than the expected one; the message names the file."""


def describe(error: Exception) -> str:
    """An error of requests, httpx or pip in a few words, without a password."""
    text = join_lines(error) or type(error).__name__
    proxies = [name for name in os.environ if name.lower() in PROXIES and os.environ[name]]
    proxy = "the proxy in " + " and ".join(f"{name} ({hide_password(os.environ[name])})" for name in proxies)
    if (response := getattr(error, "response", None)) is not None:
        return f"HTTP {response.status_code}"
    names_no_version = any(os.environ[name].startswith("socks://") for name in proxies)  # GNOME writes this
    if proxies and ("scheme for proxy" in text or ("SOCKS" in text and names_no_version)):
        return f"{proxy} must begin with socks5://, http:// or https://"
    if proxies and "SOCKS" in text:
        return f"{proxy} needs packages: run `uv pip install socksio PySocks`"
    if isinstance(error, requests.Timeout | httpx2.TimeoutException) or "timed out" in text:
        return "no answer in time"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted"
    if isinstance(error, requests.ConnectionError | httpx2.TransportError) or "connection broken" in text.lower():
        return f"no connection through {proxy}" if proxies else "no connection"
    urls = [value for name, value in os.environ.items() if name.lower() in PROXIES or name.startswith(URL_VARIABLES)]
    if hide_passwords(text, urls) != text:
        return "no valid URL: in a password, write / as %2F and @ as %40"
    return text


def hide_password(url: str) -> str:
    """The URL without the user's name and password."""
    return re.sub("//.*@", "//", url, flags=re.DOTALL)
