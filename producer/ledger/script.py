"""The ledger's Lua script: loaded once, called with EVALSHA, one by one or pipelined."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

import redis

#: Maximum names in one call of the script: a script blocks all other clients.
PAGE_JOBS: Final = 64
#: Milliseconds that replicas have to acknowledge new jobs.
REPLICAS_WAIT_MS: Final = 5000

#: Files of the script, in order; a part uses the local functions of earlier parts.
PARTS: Final = (
    "prelude",
    "dispatch",
    "usage",
    "blobs",
    "webhooks",
    "batches",
    "jobs",
    "lost",
    "leases",
    "aborts",
    "messages",
    "statistics",
)
_FOLDER: Final = resources.files(__package__)
SOURCE: Final = "\n".join(
    [
        *(_FOLDER.joinpath(f"{part}.lua").read_text() for part in PARTS),
        "return operations[ARGV[2]](unpack(ARGV, 3))\n",
    ]
)


class LedgerScript:
    """The script on one server, for one key prefix; thread-safe.

    Raises redis-py's errors as they are.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._script = client.register_script(SOURCE)

    def call(self, operation: str, *arguments: Any) -> Any:
        """Call one operation; return its answer."""
        words = (0, self._prefix, operation, *arguments)
        try:
            return self._redis.evalsha(self._script.sha, *words)
        except redis.exceptions.NoScriptError:
            # A failover or a restart. EVAL, since loading could precede another restart.
            return self._redis.eval(SOURCE, *words)

    def call_paged(self, operation: str, *arguments: Any, names: Sequence[str]) -> list[Any]:
        """Call an operation with PAGE_JOBS names at a time; return all answers in one list."""
        answers: list[Any] = []
        for start in range(0, len(names), PAGE_JOBS):
            answers += self.call(operation, *arguments, *names[start : start + PAGE_JOBS]) or ()
        return answers

    def call_many(
        self, operation: str, calls: Sequence[tuple[Any, ...]], replicas: int = 0
    ) -> list[Any]:
        """Call an operation once for each tuple of arguments, all in one round trip.

        Raises redis.TimeoutError when fewer than `replicas` have acknowledged the writes within
        REPLICAS_WAIT_MS.
        """
        try:
            answers = self._pipeline(operation, calls, replicas)
        except redis.exceptions.NoScriptError:
            # A failover or a restart: this server has not loaded the script.
            answers = self._pipeline(operation, calls, replicas, load=True)
        if replicas and (acknowledged := answers.pop()) < replicas:
            raise redis.TimeoutError(
                f"{acknowledged} of {replicas} replicas acknowledged the job (BLIPLINE_REPLICAS)"
            )
        return answers

    def _pipeline(
        self,
        operation: str,
        calls: Sequence[tuple[Any, ...]],
        replicas: int,
        *,
        load: bool = False,
    ) -> list[Any]:
        # EVALSHA itself: redis-py's Script checks before each pipeline that the script is loaded.
        pipe = self._redis.pipeline(transaction=False)
        if load:
            pipe.script_load(SOURCE)
        for arguments in calls:
            pipe.evalsha(self._script.sha, 0, self._prefix, operation, *arguments)
        if replicas:
            # WAIT covers earlier writes of the same connection only.
            pipe.wait(replicas, REPLICAS_WAIT_MS)
        return pipe.execute()[int(load) :]
