"""ModelScope on loopback: listings, files with ranges, and its failures, as its client asks."""

from __future__ import annotations

import hashlib
import json
from urllib.parse import parse_qs, urlsplit

from tests.fake_hub import HubHandler, Repository

_PREFIX = "/api/v1/models/"


class ModelScopeHandler(HubHandler):
    """The requests of modelscope-hub."""

    def route(self, path: str) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        revision = query.get("Revision", "master")
        name = path.removeprefix(_PREFIX)
        if name.endswith("/repo/files"):
            self._list_files(name.removesuffix("/repo/files"), revision)
        elif name.endswith("/repo"):
            self.send_file(name.removesuffix("/repo"), revision, query["FilePath"])
        elif (repository := self.open(name)) is not None:
            self._answer({"Name": name, "Revisions": list(repository.revisions)})

    def _list_files(self, name: str, revision: str) -> None:
        repository = self.open(name)
        if repository is None:
            return
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            self.fail(404, "revision not found")
            return
        files = [
            {
                "Path": path,
                "Name": path.rpartition("/")[2],
                "Type": "blob",
                "Size": len(data),
                "Sha256": hashlib.sha256(data).hexdigest(),
                "Revision": commit,
            }
            for path, data in repository.commits[commit].items()
        ]
        self._answer({"Files": [*files, {"Path": "onnx", "Type": "tree", "Size": 0}]})

    def open(self, name: str) -> Repository | None:
        """Return a repository; answer with an error if the request may not read it."""
        repository = self.server.repositories.get(name)
        if repository is None:
            self.fail(404, "model not found")
        elif repository.access != "public" and not self.authorized():
            self.fail(401 if "Authorization" not in self.headers else 403, "access denied")
        else:
            return repository
        return None

    def _answer(self, data: object) -> None:
        self.send_json({"Code": 200, "Success": True, "Data": data})

    def fail(self, status: int, code: str = "") -> None:
        body = json.dumps({"Code": status, "Success": False, "Message": code}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
