"""Redis servers that a test can kill: a master, its replicas, and sentinels that watch them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import redis

from demo.stack import ROOT, free_port, redis_server

MASTER_NAME: Final = "captions"
#: Milliseconds without an answer after which a sentinel takes a server for dead.
DOWN_AFTER_MS: Final = 500
#: Seconds for anything here to happen, on a machine that is busy with other things.
PATIENCE_S: Final = 60.0


class Server:
    """A redis-server, or a sentinel, with a configuration file and a log of its own.

    A sentinel has a server that it reconfigures rewrite its file, so the one of this repository
    is copied; and so a server that is started again is what it last was, master or replica.
    """

    def __init__(
        self, directory: Path, *lines: str, password: str | None = None, sentinel: bool = False
    ) -> None:
        self.port = free_port()
        self.password = password
        self._file = directory / f"{'sentinel' if sentinel else 'redis'}-{self.port}.conf"
        self._arguments = ["--sentinel"] if sentinel else []
        self._process: subprocess.Popen[bytes] | None = None
        own = [f"port {self.port}", "bind 127.0.0.1", f'dir "{directory}"']
        if not sentinel:
            own.append((ROOT / "config" / "redis.conf").read_text())
            own.append(f"appendfilename {self.port}.aof")
        if password is not None:
            own.append(f'requirepass "{password}"')
        self._file.write_text("\n".join([*own, *lines, ""]))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._file.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [redis_server(), str(self._file), *self._arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self.answers, f"an answer of {self._file}")

    def kill(self) -> None:
        """As a crash does it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def connect(self) -> redis.Redis:
        """A plain connection to this very server."""
        return redis.Redis("127.0.0.1", self.port, password=self.password, retry=None)

    def answers(self) -> bool:
        """Whether it takes commands; while it loads its file it does not."""
        try:
            with self.connect() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@dataclass(frozen=True)
class Sentinels:
    """A master, its replicas and their sentinels, all of them running at first."""

    #: What clients and workers are given; database 0.
    url: str
    #: The one that was the master at first comes first.
    servers: list[Server]
    sentinels: list[Server]

    def master(self) -> Server | None:
        """The server that the sentinels name; None: none of them answers, or knows one."""
        for sentinel in self.sentinels:
            try:
                with sentinel.connect() as client:
                    found: Any = client.sentinel_get_master_addr_by_name(MASTER_NAME)
            except redis.RedisError:
                continue
            return next((one for one in self.servers if found and one.port == found[1]), None)
        return None

    def kill_master(self) -> Server:
        """SIGKILL the master, and wait until another server is; returns the one killed."""
        killed = self._wait_for_master()
        killed.kill()
        wait_until(lambda: self._is_master(other_than=killed), "a new master")
        return killed

    def fail_over(self) -> None:
        """Make a replica the master, and the master a replica; everything lives on."""
        before = self._wait_for_master()

        def accepted() -> bool:
            # Refused while the last failover is not over, or no replica is known to be good.
            for sentinel in self.sentinels:
                try:
                    with sentinel.connect() as client:
                        return bool(client.execute_command("SENTINEL", "FAILOVER", MASTER_NAME))
                except redis.RedisError:
                    continue
            return False

        wait_until(accepted, "a sentinel that begins a failover")
        wait_until(lambda: self._is_master(other_than=before), "a new master")

    def _wait_for_master(self) -> Server:
        wait_until(lambda: self.master() is not None, "a master")
        master = self.master()
        assert master is not None
        return master

    def _is_master(self, other_than: Server) -> bool:
        master = self.master()
        if master is None or master is other_than:
            return False
        try:
            with master.connect() as client:
                role: Any = client.role()
                return bool(role[0] == b"master")
        except redis.RedisError:
            return False


@contextmanager
def running_sentinels(
    directory: Path,
    *lines: str,
    replicas: int = 1,
    sentinels: int = 3,
    password: str | None = None,
    sentinel_password: str | None = None,
) -> Iterator[Sentinels]:
    """A master, its replicas and sentinels, which all know of each other.

    `lines` are added to the configuration of the servers: ``"min-replicas-to-write 1"``.
    """
    login = [] if password is None else [f'masterauth "{password}"']
    with ExitStack() as stack:
        servers = []
        for number in range(1 + replicas):
            follow = [f"replicaof 127.0.0.1 {servers[0].port}"] if number else []
            # A replica's first copy must not wait for others that want one.
            own = ["repl-diskless-sync-delay 0", *follow, *login, *lines]
            servers.append(_started(stack, Server(directory, *own, password=password)))
        wait_until(lambda: _replicas_of(servers[0]) == replicas, "replicas in step")
        watch = _sentinel_lines(servers[0].port, sentinels // 2 + 1, password, sentinel_password)
        watchers = [
            _started(stack, Server(directory, *watch, password=sentinel_password, sentinel=True))
            for _ in range(sentinels)
        ]
        for watcher in watchers:
            wait_until(lambda w=watcher: _knows_all(w, replicas, sentinels), "sentinels that know")
        yield Sentinels(_url(watchers, password, sentinel_password), servers, watchers)


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Look until it is true; raises TimeoutError, which says what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.05)


def _started(stack: ExitStack, server: Server) -> Server:
    stack.callback(server.kill)
    server.start()
    return server


def _url(sentinels: list[Server], password: str | None, sentinel_password: str | None) -> str:
    login = "" if password is None else f":{quote(password, '')}@"
    hosts = ",".join(f"127.0.0.1:{one.port}" for one in sentinels)
    more = "" if sentinel_password is None else f"&sentinel_password={quote(sentinel_password)}"
    return f"sentinel://{login}{hosts}/0?master={MASTER_NAME}{more}"


def _sentinel_lines(
    port: int, quorum: int, password: str | None, sentinel_password: str | None
) -> list[str]:
    lines = [
        f"sentinel monitor {MASTER_NAME} 127.0.0.1 {port} {quorum}",
        f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {MASTER_NAME} 3000",
    ]
    if password is not None:
        lines.append(f'sentinel auth-pass {MASTER_NAME} "{password}"')
    if sentinel_password is not None:
        lines.append(f'sentinel sentinel-pass "{sentinel_password}"')
    return lines


def _replicas_of(master: Server) -> int:
    """How many replicas have all that it has."""
    with master.connect() as client:
        found: Any = client.info("replication")
    known = [found.get(f"slave{number}", {}) for number in range(found["connected_slaves"])]
    return sum(one.get("state") == "online" for one in known)


def _knows_all(sentinel: Server, replicas: int, sentinels: int) -> bool:
    with sentinel.connect() as client:
        state: Any = client.sentinel_master(MASTER_NAME)
        known: Any = client.sentinel_slaves(MASTER_NAME)
    up = [one for one in known if not one["is_disconnected"] and not one["is_sdown"]]
    return state["num-other-sentinels"] == sentinels - 1 and len(up) == replicas
