"""HTTP requests that continue while the gateway and Redis are stopped."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

import httpx

from demo.tour import pictures

#: Seconds between two requests: the load is the batch, not these.
PAUSE_S = 0.2


class JobRequests:
    """Jobs that a thread submits by the gateway; each accepted one must end with a text."""

    def __init__(self, address: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png"}
        # A new connection for each request: one that is kept would race with the gateway's end.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=address, headers=headers, timeout=90, limits=limits)
        self._image = pictures()[0].read_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit)
        self._accepted: list[str] = []
        #: Answers by status, and failures by name.
        self.outcomes: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._http.close()

    def _submit(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._http.post(
                    "/v1/caption", content=self._image, headers={"Prefer": "wait=0"}
                )
            except httpx.TransportError as error:
                self.outcomes[type(error).__name__] += 1
            else:
                self.outcomes[str(answer.status_code)] += 1
                if answer.status_code in (200, 202):
                    self._accepted.append(answer.json()["id"])
            time.sleep(PAUSE_S)

    def lost(self) -> list[str]:
        """Stop; return the accepted jobs that have no text, and raise if none was accepted."""
        self._stop.set()
        self._thread.join()
        if not self._accepted:
            raise RuntimeError(f"the gateway accepted no job: {dict(self.outcomes)}")
        wait = {"Prefer": "wait=60"}
        jobs = [self._http.get(f"/v1/jobs/{job}", headers=wait).json() for job in self._accepted]
        return [job["id"] for job in jobs if job["status"] != "done" or not job["output"]["text"]]
