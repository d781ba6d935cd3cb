"""Polishing of descriptions by a language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import httpx

from producer.contract import MAX_TEXT_CHARS
from producer.net.redact import redact_url
from worker.engine.request import Answer

log = logging.getLogger(__name__)

#: Maximum seconds of a request.
TIMEOUT_S: Final = 30.0
#: Concurrent requests of a consumer.
THREADS: Final = 8
#: Seconds without requests after one that could not reach the endpoint, so that the descriptions
#: of a chunk do not wait for a timeout each.
PAUSE_S: Final = 30.0
#: Error code of an answer; the recipe turns it into a warning.
FAILED: Final = "not_polished"

_INSTRUCTIONS: Final = (
    "You edit descriptions of images. Rewrite the description as fluent prose. Use only its facts; "
    "the candidates show how they were worded. Add nothing and leave nothing out. Reply with the "
    "description only."
)


class Polisher:
    """A client of the endpoint; thread-safe. An error is an answer with an error message."""

    def __init__(self, url: str, model: str, key: str = "", timeout_s: float = TIMEOUT_S) -> None:
        base = url.rstrip("/")
        self._url = base if base.endswith("/chat/completions") else f"{base}/chat/completions"
        self._model = model
        self._timeout_s = timeout_s
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(headers=headers, timeout=timeout_s)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="polish")
        self._lock = threading.Lock()
        self._pause: tuple[float, str] = (0.0, "")

    @property
    def identity(self) -> str:
        """The parameters that determine the polished texts, for the result cache."""
        return json.dumps([self._url, self._model, _INSTRUCTIONS])

    def submit(
        self, text: str, candidates: Sequence[str], deadline: float | None = None
    ) -> Future[Answer]:
        """Polish a text in a thread, until the deadline on the monotonic clock at most."""
        return self._pool.submit(self._polish, text, tuple(candidates), deadline)

    def close(self) -> None:
        """Cancel the requests that have not started, and close all connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._http.close()

    def _polish(self, text: str, candidates: tuple[str, ...], deadline: float | None) -> Answer:
        try:
            return Answer(0, self._request(text, candidates, deadline))
        except Exception as error:  # whatever the endpoint does, the text remains
            # The address of the endpoint is the operator's business.
            log.warning("a description is not polished: %s: %r", redact_url(self._url), error)
            return Answer(0, error_code=FAILED, error_message=_reason(error))

    def _request(self, text: str, candidates: tuple[str, ...], deadline: float | None) -> str:
        now = time.monotonic()
        pause_end, reason = self._pause
        if now < pause_end:
            raise PolishError(reason)
        timeout_s = self._timeout_s if deadline is None else min(self._timeout_s, deadline - now)
        if timeout_s <= 0:
            raise PolishError("the deadline has passed")
        try:
            response = self._http.post(
                self._url, json=self._body(text, candidates), timeout=timeout_s
            )
        except httpx.TransportError as error:
            with self._lock:
                self._pause = (time.monotonic() + PAUSE_S, _reason(error))
            raise
        if response.status_code != httpx.codes.OK:
            raise PolishError(f"the language model answered with HTTP {response.status_code}")
        return _polished(response.content)

    def _body(self, text: str, candidates: tuple[str, ...]) -> dict[str, Any]:
        content = json.dumps({"description": text, "candidates": candidates}, ensure_ascii=False)
        messages = [
            {"role": "system", "content": _INSTRUCTIONS},
            {"role": "user", "content": content},
        ]
        return {"model": self._model, "messages": messages, "temperature": 0}


class PolishError(Exception):
    """A response without a polished text; the message names the reason."""


def _polished(body: bytes) -> str:
    """Return the text of a response; raises PolishError if there is none."""
    try:
        text = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise PolishError("the response has no choices[0].message.content") from None
    if not isinstance(text, str) or not (text := text.strip().strip('"').strip()):
        raise PolishError("the response is empty")
    if len(text) > MAX_TEXT_CHARS:
        raise PolishError(f"the response has {len(text):,} characters")
    return text


def _reason(error: Exception) -> str:
    if isinstance(error, PolishError):
        return str(error)
    if isinstance(error, httpx.TimeoutException):
        return "the language model did not answer in time"
    return f"the language model cannot be reached ({type(error).__name__})"
