"""Servers on 127.0.0.1 for tests: a file server with scripted answers, and a look-alike of the Hugging Face Hub."""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from processes import find_free_port

from cola.core import files

CHUNK_BYTES = 1 << 20


def find_closed_port() -> str:
    """The URL of a port on which nothing listens."""
    return f"http://127.0.0.1:{find_free_port()}"


def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that send downloads elsewhere: mirrors, proxies, settings of the Hub's library."""
    for name in os.environ:
        if name.startswith(("HF_", "HUGGINGFACE_")) or name.lower().endswith("_proxy") or name == "COLA_MIRROR":
            monkeypatch.delenv(name)


class Answer(NamedTuple):
    """An answer to a request. The default is that of a good server."""

    status: int = 0  # 0: 200, or 404 for a file that does not exist
    body: bytes | None = None  # None: the file
    cut_after: int | None = None  # bytes of the body, then the connection is closed
    length: bool = True  # False: no Content-Length
    chunked: bool = False
    location: str = ""  # a redirect to it
    seconds: float = 0.0  # of silence before the answer
    pause: float = 0.0  # seconds between two bytes of the body


@dataclass
class Server:
    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)  # their paths
    script: list[Answer] = field(default_factory=list)  # the next answers; after them, all are good


@contextmanager
def file_server(served: dict[str, bytes], script: list[Answer] | None = None) -> Iterator[Server]:
    """Serve files (path without the leading slash -> content), each request as the next Answer of `script` says."""

    class Handler(_Handler):
        def answer(self) -> None:
            how = server.script.pop(0) if server.script else Answer()
            name = unquote(urlsplit(self.path).path).lstrip("/")
            body = how.body if how.body is not None else server.files.get(name)
            time.sleep(how.seconds)
            if how.location:
                self.reply(how.status or 302, {"Location": how.location}, b"")
            elif how.status >= 400 or body is None:
                self.reply(how.status or 404, {}, b"no")
            else:
                self.send_file(how, body)

        def send_file(self, how: Answer, body: bytes) -> None:
            headers = {"Cache-Control": "max-age=600"}  # allows pip to keep a copy
            if how.chunked:
                headers["Transfer-Encoding"] = "chunked"
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            elif how.length:
                headers["Content-Length"] = str(len(body))
            if self.path.endswith("/"):
                headers["Content-Type"] = "text/html"  # else pip does not read the page
            self.reply(200, headers, b"" if how.pause else body[: how.cut_after])
            for number in range(len(body) if how.pause else 0):
                time.sleep(how.pause)
                self.wfile.write(body[number : number + 1])

    with _serve(Handler) as server:
        server.files.update(served)
        server.script += script or []
        yield server


@contextmanager
def hub(
    repository: str, revision: str, folder: Path, lies: dict[str, Any] | None = None, token: str = ""
) -> Iterator[Server]:
    """Serve the files of `folder` as the Hub serves a model repository at a commit; set HF_ENDPOINT to its url.

    Safetensors are in Git LFS, the other files in git. `lies` changes the Hub's statement about a file: name -> entry
    of `siblings`. With `token`, the repository is private, or gated if the token begins so, and only that token opens
    it.
    """

    class Handler(_Handler):
        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            prefix = f"/{repository}/resolve/{revision}/"
            sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if sent and sent != token:
                self.reply(401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b"")
            elif f"/{repository}/" not in path or sent != token:
                status, code = (403, "GatedRepo") if token.startswith("gated") else (401, "RepoNotFound")
                self.reply(status, {"X-Error-Code": code}, b"")
            elif revision not in path:
                self.reply(404, {"X-Error-Code": "RevisionNotFound"}, b"")
            elif path == f"/api/models/{repository}/revision/{revision}":
                siblings = [_find_sibling(file) | (lies or {}).get(file.name, {}) for file in sorted(folder.iterdir())]
                model = {"id": repository, "modelId": repository, "sha": revision, "siblings": siblings}
                self.reply(200, {"Content-Type": "application/json"}, json.dumps(model).encode())
            elif path.startswith(prefix) and (folder / path.removeprefix(prefix)).is_file():
                self.send_file(folder / path.removeprefix(prefix))
            else:
                self.reply(404, {"X-Error-Code": "EntryNotFound"}, b"")

        def send_file(self, path: Path) -> None:
            stated = _find_sibling(path)
            etag, size = stated["lfs"]["sha256"] if "lfs" in stated else stated["blobId"], str(stated["size"])
            headers = {"X-Repo-Commit": revision, "ETag": f'"{etag}"', "Content-Length": size}
            if "lfs" in stated:
                headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": size}
            self.reply(200, headers, b"")
            if self.command == "GET":
                with path.open("rb") as content:
                    shutil.copyfileobj(content, self.wfile, CHUNK_BYTES)

    with _serve(Handler) as server:
        yield server


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 for chunks, one request per connection, so that a cut body is cut."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        self.server.record.requests.append(self.path)
        self.close_connection = True
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has heard enough
            self.answer()

    do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

    def answer(self) -> None:
        raise NotImplementedError

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Connection": "close"} | headers).items():
            self.send_header(name, value)
        if status >= 300:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass  # the tests read `requests`


class _Server(ThreadingHTTPServer):
    record: Server


@contextmanager
def _serve(handler: type[_Handler]) -> Iterator[Server]:
    with _Server(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.record = Server(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server.record
        finally:
            server.shutdown()


def _find_sibling(path: Path) -> dict[str, Any]:
    """The entry of a file in the Hub's API: the hash of a git blob, or the sha256 of a file in Git LFS."""
    return dict(_read_state(path, path.stat().st_mtime_ns))


@cache
def _read_state(path: Path, _modified: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": path.name, "size": path.stat().st_size}
    if path.suffix == ".safetensors":
        entry["lfs"] = {"sha256": files.hash_file(path), "size": entry["size"], "pointerSize": 134}
    else:
        blob = b"blob %d\0" % entry["size"] + path.read_bytes()
        entry["blobId"] = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    return entry


def list_bert_base_shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of google-bert/bert-base-uncased's file: old LayerNorm names, two heads, without the tied decoder."""
    import torch  # takes seconds, as transformers does
    from transformers import BertConfig, BertForPreTraining

    with torch.device("meta"):
        weights = BertForPreTraining(BertConfig()).state_dict()
    old = {name: name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta") for name in weights}
    return {old[name]: tuple(tensor.shape) for name, tensor in weights.items() if ".decoder." not in name}
