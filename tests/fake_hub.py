"""A Hugging Face hub on loopback: listings, files with ETags and ranges, and its failures."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.serving import serving

TOKEN = "hf_of_the_right_account"


def read_files(directory: Path) -> dict[str, bytes]:
    """Return the files of a checkpoint by their names in the repository."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def commit_hash(number: int) -> str:
    return f"{number:040x}"


@dataclass
class Repository:
    """A repository: files by commit, commits by branch or tag."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    #: Only requests with TOKEN read it; the others see that it is gated, or no repository.
    access: str = "public"

    def push(self, files: Mapping[str, bytes], *revisions: str) -> str:
        """Add a commit and move branches or tags to it; return its hash."""
        commit = commit_hash(len(self.commits) + 1)
        self.commits[commit] = dict(files)
        self.revisions |= dict.fromkeys(revisions or ("main",), commit)
        return commit


class FakeHub(ThreadingHTTPServer):
    """The server; its attributes set how it fails, and count what it is asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[BaseHTTPRequestHandler] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or HubHandler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        #: Method and path of each request.
        self.requests: list[str] = []
        #: Accept requests and never answer them.
        self.hangs = False
        #: Status of every answer, if not 0.
        self.status = 0
        #: Number of the next listings that are answered with 503.
        self.outage = 0
        #: Bytes after which the next answer with a file breaks off, by file name.
        self.cuts: dict[str, int] = {}
        #: Files that are not sent before `released` is set.
        self.blocked: set[str] = set()
        self.released = threading.Event()
        self.stopped = threading.Event()

    def repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())

    def downloads(self) -> list[str]:
        """Return the names of the files that were sent, or begun."""
        gets = [line for line in self.requests if line.startswith("GET") and "/resolve/" in line]
        return [line.partition("/resolve/")[2].partition("/")[2] for line in gets]


@contextmanager
def running_hub(handler: type[BaseHTTPRequestHandler] | None = None) -> Iterator[FakeHub]:
    """Run a hub in a thread of this process."""
    hub = FakeHub(handler)
    with serving(hub):
        try:
            yield hub
        finally:
            hub.stopped.set()
            hub.released.set()


class HubHandler(BaseHTTPRequestHandler):
    """The requests of huggingface_hub."""

    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def _handle(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if self.server.hangs:
            self.server.stopped.wait()
            self.close_connection = True
        elif self.server.status:
            self.fail(self.server.status)
        else:
            self.route(path)

    def route(self, path: str) -> None:
        """Answer a request for a path without its query."""
        if path.startswith("/api/models/") and self.server.outage:
            self.server.outage -= 1
            self.fail(503)
        elif path.startswith("/api/models/"):
            self._list(path.removeprefix("/api/models/"))
        else:
            name, _, rest = path[1:].partition("/resolve/")
            self.send_file(name, *rest.partition("/")[::2])

    def authorized(self) -> bool:
        """Return whether the request has the token."""
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _list(self, path: str) -> None:
        kind = "/revision/" if "/revision/" in path else "/tree/"
        name, _, revision = path.partition(kind)
        repository = self.open(name)
        if repository is None:
            return
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            self.fail(404, "RevisionNotFound")
            return
        files = repository.commits[commit]
        if kind == "/tree/":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": etag(data)}
                for name, data in files.items()
            ]
            self.send_json(entries)
            return
        siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
        self.send_json({"id": name, "modelId": name, "sha": commit, "siblings": siblings})

    def open(self, name: str) -> Repository | None:
        """Return a repository; answer with the hub's error if the request may not read it."""
        repository = self.server.repositories.get(name)
        authorized = self.authorized()
        if repository is None or (repository.access == "private" and not authorized):
            self.fail(401, "RepoNotFound")
        elif repository.access == "gated" and not authorized:
            self.fail(401 if "Authorization" not in self.headers else 403, "GatedRepo")
        else:
            return repository
        return None

    def send_file(self, name: str, commit: str, file: str) -> None:
        repository = self.open(name)
        if repository is None:
            return
        commit = repository.revisions.get(commit, commit)
        data = repository.commits.get(commit, {}).get(file)
        if data is None:
            self.fail(404, "EntryNotFound")
            return
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{etag(data)}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            self._send_body(file, data[start:])

    def _send_body(self, file: str, data: bytes) -> None:
        cut = self.server.cuts.pop(file, None)
        if file in self.server.blocked:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.server.released.wait()
            data = data[len(data) // 2 :]
        try:
            self.wfile.write(data[:cut])
        except OSError:
            self.close_connection = True
        if cut is not None:
            self.close_connection = True

    def send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fail(self, status: int, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
