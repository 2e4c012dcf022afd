"""cola.fetch.download against real servers on 127.0.0.1: no test needs a network."""

import hashlib
import io
import logging
import zipfile
from contextlib import contextmanager
from types import SimpleNamespace

import pooch
import pytest
from loopback import Answer, clean_environment, file_server, find_closed_port
from project import ROOT

from cola.core.errors import UserError
from cola.fetch import download, sources, transfers
from cola.fetch.sources import Archive, File, Source
from stages import fetch as fetch_stage

ZIP = "cola_public_1.1.zip"
MEMBERS = {
    "in_domain_train.tsv": b"gj04\t1\t\tOur friends won't buy this.\ngj04\t0\t*\tThem won't buy this.\n",
    "in_domain_dev.tsv": b"gj04\t1\t\tThe sailors rode the breeze clear of the rocks.\n",
    "out_of_domain_dev.tsv": b"clc95\t0\t*\tSomebody just left - guess who just left.\n",
}
HEADER = b"sentence_source,label,sentence\r\n"
WRITTEN = {
    "train.csv": HEADER + b"gj04,acceptable,Our friends won't buy this.\r\ngj04,unacceptable,Them won't buy this.\r\n",
    "test.csv": HEADER + b"clc95,unacceptable,Somebody just left - guess who just left.\r\n",
}
REMEDY = f". Set COLA_MIRROR to a folder or URL that has {ZIP}, or run `make demo`, or, for an encoder of BERT's size, "


def pin(content):
    return File(hashlib.sha256(content).hexdigest(), len(content))


def pack(members):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr("cola_public/raw/" + name, content)
    return archive.getvalue()


GOOD = pack(MEMBERS)


@pytest.fixture(autouse=True)
def waits(tmp_path, monkeypatch):
    """An empty cache, no mirror and no proxy. Returns the list of the seconds that pooch would have waited."""
    clean_environment(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seconds = []
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


def pin_cola(monkeypatch, url):
    pins = {name: pin(member) for name, member in MEMBERS.items()}
    archive = Archive(f"{url}/{ZIP}", "cola_public/raw/", pin(GOOD))
    monkeypatch.setitem(sources.CORPORA, "cola", Source("cola", "1.1", pins, "a license", "a citation", archive))


@contextmanager
def cola_host(monkeypatch, *script):
    """A host of CoLA's zip that answers as the script says."""
    with file_server({ZIP: GOOD}, list(script)) as server:
        pin_cola(monkeypatch, server.url)
        yield server


def read_folder(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fetch(folder):
    folder.mkdir()
    provenance = download.fetch_corpus("cola", folder)
    assert read_folder(folder) == WRITTEN
    return provenance


def fail_to_fetch(folder):
    """The line with which fetching CoLA fails. No file is left that could pass for the corpus."""
    folder.mkdir()
    with pytest.raises(UserError) as caught:
        download.fetch_corpus("cola", folder)
    assert list(folder.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_host_is_asked_once_for_all_clones_and_again_where_the_cache_is_spoiled(tmp_path, monkeypatch):
    with cola_host(monkeypatch) as server:
        assert fetch(tmp_path / "raw") == {
            "name": "cola",
            "revision": "1.1",
            "files": {name: hashlib.sha256(MEMBERS[name]).hexdigest() for name in sorted(MEMBERS)},
            "license": "a license",
            "citation": "a citation",
            "labels": ["unacceptable", "acceptable"],
        }
        fetch(tmp_path / "second clone")
        assert server.requests == [f"/{ZIP}"]
        (tmp_path / "cache/bert-cola" / ZIP).write_bytes(bytes(len(GOOD)))
        fetch(tmp_path / "third clone")
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=404), "HTTP 404"),
        (Answer(status=503), "HTTP 503"),
        (Answer(cut_after=10), "no connection"),
        (Answer(cut_after=10, chunked=True), "no connection"),
        (Answer(seconds=1), "no answer in time"),
        (Answer(location="http://127.0.0.1:1/"), "no connection"),
        (Answer(location=f"/{ZIP}"), "HTTP 302"),  # round and round
        (Answer(location="file:///etc/passwd"), "No connection adapters were found for 'file:///etc/passwd'"),
    ],
)
def test_a_host_that_fails_is_asked_again_and_named_at_last(tmp_path, monkeypatch, waits, answer, reason):
    if answer.seconds:
        monkeypatch.setattr(download, "TIMEOUT", (5.0, answer.seconds / 2))
    with cola_host(monkeypatch, *[answer] * 99):
        line = fail_to_fetch(tmp_path / "failed")
        assert line.startswith(f"cannot fetch cola: COLA_MIRROR is not set; 127.0.0.1: {reason}{REMEDY}")
        assert waits == [1, 2]
    with cola_host(monkeypatch, *[answer] * download.RETRIES):
        fetch(tmp_path / "raw")


@pytest.mark.parametrize("provider", ["127.0.0.1", "COLA_MIRROR ({url})"])
@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=bytes(len(GOOD))),
        Answer(body=GOOD + b"!"),
        Answer(body=b"<html>please log in</html>", chunked=True),
        Answer(cut_after=100, length=False),
    ],
    ids=["other bytes", "longer", "a page", "cut, without a stated length"],
)
def test_wrong_bytes_are_refused_and_the_remedy_helps(tmp_path, monkeypatch, answer, provider):
    """The next provider is not asked instead."""
    with cola_host(monkeypatch, *[answer] * 3) as server:
        if "COLA_MIRROR" in provider:
            monkeypatch.setenv("COLA_MIRROR", server.url)
            pin_cola(monkeypatch, "http://cola.invalid")
        line = fail_to_fetch(tmp_path / "failed")
    wrong = f"is refused: it is not the expected file, of {len(GOOD)} bytes and with the hash {pin(GOOD).hash}"
    assert line.startswith(f"{provider.format(url=server.url)}: {ZIP} {wrong}{REMEDY}")
    assert list((tmp_path / "cache/bert-cola").iterdir()) == []
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / ZIP).write_bytes(GOOD)
    monkeypatch.setenv("COLA_MIRROR", str(tmp_path / "mirror"))
    fetch(tmp_path / "raw")


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    with cola_host(monkeypatch):
        line = fail_to_fetch(tmp_path / "raw")
    assert line.startswith("cannot fetch cola: [Errno 20] Not a directory")
    assert line.endswith("; fix that and run `dvc repro`")


def test_a_mirror_comes_before_the_cache_and_the_host(tmp_path, monkeypatch):
    (tmp_path / ZIP).write_bytes(GOOD)
    monkeypatch.setenv("HOME", str(tmp_path))
    with cola_host(monkeypatch) as host, file_server({f"some/where/{ZIP}": GOOD}, [Answer(cut_after=50)]) as mirror:
        for number, folder in enumerate((str(tmp_path), "~")):
            monkeypatch.setenv("COLA_MIRROR", folder)
            fetch(tmp_path / str(number))
        assert not (tmp_path / "cache").exists()
        monkeypatch.setenv("COLA_MIRROR", f"{mirror.url}/some/where/")
        fetch(tmp_path / "from a URL")
        assert mirror.requests == [f"/some/where/{ZIP}"] * 2
        assert host.requests == []
    (tmp_path / ZIP).write_bytes(b"wrong")
    monkeypatch.setenv("COLA_MIRROR", str(tmp_path))
    assert fail_to_fetch(tmp_path / "failed").startswith(f"COLA_MIRROR ({tmp_path}): {ZIP} is refused")


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("", " is not set"),
        ("{folder}/missing", f" ({{mirror}}) has no {ZIP}"),
        ("~nobody-of-that-name/mirror", f" ({{mirror}}) has no {ZIP}"),
        ("{server}/404", " ({mirror}): HTTP 404"),
        ("{closed}", " ({mirror}): no connection"),
        ("http://mirror..invalid", " ({mirror}): Failed to parse: 'mirror..invalid', label empty or too long"),
        ("ftp://mirror", " ({mirror}) is neither a folder nor a URL of http or https"),
    ],
)
def test_a_mirror_without_the_file_is_passed_over(tmp_path, monkeypatch, mirror, reason):
    with file_server({}) as server:
        mirror = mirror.format(folder=tmp_path, server=server.url, closed=find_closed_port())
        monkeypatch.setenv("COLA_MIRROR", mirror)
        pin_cola(monkeypatch, "http://cola.invalid")
        assert fail_to_fetch(tmp_path / "failed").startswith(
            f"cannot fetch cola: COLA_MIRROR{reason.format(mirror=mirror)}; cola.invalid: no connection{REMEDY}"
        )
        with cola_host(monkeypatch):
            fetch(tmp_path / "raw")


@pytest.mark.parametrize(
    "proxy",
    ["socks5://me:secret@127.0.0.1:9", "socks5h://127.0.0.1:9", "socks://127.0.0.1:9", "http://127.0.0.1:9"],
)
def test_a_proxy_is_named(tmp_path, monkeypatch, proxy):
    pin_cola(monkeypatch, "http://cola.invalid")
    monkeypatch.setenv("all_proxy", proxy)
    shown = f"the proxy in all_proxy ({proxy.replace('me:secret@', '')})"
    needs = f"{shown} needs packages: run `uv pip install socksio PySocks`"
    reason = needs if proxy.startswith("socks") else f"no connection through {shown}"
    if proxy.startswith("socks:"):
        reason = f"{shown} must begin with socks5://, http:// or https://"
    assert f"; cola.invalid: {reason}{REMEDY}" in fail_to_fetch(tmp_path / "raw")


@pytest.mark.parametrize(
    "password", ["me:secret@", "me:se@cret@", "secret@", "me:se/c@ret@", "me:se/cret@", "s?c#ret@"]
)
def test_the_password_of_a_mirror_is_not_shown(tmp_path, monkeypatch, capfd, password):
    log = io.StringIO()
    monkeypatch.setattr(pooch.get_logger(), "handlers", [logging.StreamHandler(log)])
    pin_cola(monkeypatch, find_closed_port())
    lines = []
    with file_server({f"wrong/{ZIP}": b"wrong"}, [Answer(status=503)] * 3) as server:
        for number, url in enumerate((server.url, f"{server.url}/wrong", find_closed_port(), "http://[")):
            monkeypatch.setenv("COLA_MIRROR", url.replace("//", "//" + password))
            lines.append(fail_to_fetch(tmp_path / str(number)))
            assert f"({url})" in lines[-1]
    shown = "".join([*lines, *capfd.readouterr(), log.getvalue()])
    assert not [part for part in ("ret@", "me:", "'se'", "c@", "s?c") if part in shown]


def test_passwords_that_are_not_sent_do_not_hide_a_reason(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://python:pip@localhost/app")
    assert transfers.describe(RuntimeError("python: No module named pip")) == "python: No module named pip"


def test_a_part_of_fetch_that_does_not_exist_is_one_line(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"^which part\? python -m stages\.fetch corpus or encoder$"):
        fetch_stage.main("corpora")


def test_the_generated_corpus_is_always_the_same(tmp_path):
    provenance = download.fetch_corpus("minimal_pairs", tmp_path)
    assert (provenance["name"], provenance["license"]) == ("minimal_pairs", "CC0-1.0")
    assert provenance["files"] == {
        "in_domain_dev.tsv": "da75f902acc8b33d667ff993fde16088366b3ff8908c7c922f641c748128de8a",
        "in_domain_train.tsv": "d5ef86ad64b26f40eab617b63c1526a33f9e2c3a42ce3e581e4a85957e89a3db",
        "out_of_domain_dev.tsv": "07528fe82ee00c213711c598d77ba7a07f5c318288c0ea0952b6fad74247119b",
    }
    assert read_folder(tmp_path).keys() == {"train.csv", "test.csv"}
