"""A small server in place of a language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class LanguageModel(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint; `replies` are its next responses."""

    replies: list[tuple[int, Any]]
    requests: list[tuple[str, str | None, Any]]

    def do_POST(self) -> None:
        """Record the request and send the next reply; None sends none."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.path, self.headers["Authorization"], body))
        status, reply = self.replies.pop(0) if self.replies else (200, completion("Polished."))
        if reply is None:
            time.sleep(0.6)
        content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def completion(text: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


@contextmanager
def running_language_model() -> Iterator[tuple[str, type[LanguageModel]]]:
    """Yield the base URL of a server, and its handler."""
    handler = type("Handler", (LanguageModel,), {"replies": [], "requests": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1", handler
        server.shutdown()
