"""Redis servers that a test can kill: a master, its replicas, and sentinels that watch them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from demo.stack import ROOT, free_port, redis_server

MASTER_NAME: Final = "captions"
#: Milliseconds without an answer after which a sentinel takes a server for dead.
DOWN_AFTER_MS: Final = 500
#: Maximum seconds of any change here, on a busy machine.
PATIENCE_S: Final = 60.0


class Server:
    """A redis-server, or a sentinel, with a configuration file and a log of its own.

    A sentinel rewrites the file of a server that it reconfigures, so this uses a copy of the file
    of this repository. A restarted server therefore has its last role, master or replica.
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
        """Start the server, and wait until it answers."""
        with self._file.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [redis_server(), str(self._file), *self._arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self.answers, f"an answer of {self._file}")

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the server without closing its connections while the block runs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def connect(self) -> redis.Redis:
        """Return a direct connection to this server."""
        return redis.Redis(
            "127.0.0.1", self.port, password=self.password, retry=Retry(NoBackoff(), 0)
        )

    def answers(self) -> bool:
        """Return whether it takes commands; while it loads its file it does not."""
        try:
            with self.connect() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@dataclass(frozen=True)
class Sentinels:
    """A master, its replicas and their sentinels, all running at the start."""

    #: The URL for clients and workers; database 0.
    url: str
    #: The first is the initial master.
    servers: list[Server]
    sentinels: list[Server]

    def master(self) -> Server | None:
        """Return the server that the sentinels name; None if none answers or knows a master."""
        for sentinel in self.sentinels:
            try:
                with sentinel.connect() as client:
                    address: Any = client.sentinel_get_master_addr_by_name(MASTER_NAME)
            except redis.RedisError:
                continue
            if not address:
                return None
            return next((server for server in self.servers if server.port == address[1]), None)
        return None

    def kill_master(self) -> Server:
        """Kill the master and wait for a new one; return the killed server."""
        killed = self._wait_for_master()
        killed.kill()
        wait_until(lambda: self._has_new_master(killed), "a new master")
        return killed

    def fail_over(self) -> None:
        """Promote a replica and demote the master; all servers keep running."""
        before = self._wait_for_master()

        def accepted() -> bool:
            # An error while the last failover is in progress, or no replica is known to be good.
            for sentinel in self.sentinels:
                try:
                    with sentinel.connect() as client:
                        return bool(client.execute_command("SENTINEL", "FAILOVER", MASTER_NAME))
                except redis.RedisError:
                    continue
            return False

        wait_until(accepted, "a sentinel that starts a failover")
        wait_until(lambda: self._has_new_master(before), "a new master")

    def _wait_for_master(self) -> Server:
        wait_until(lambda: self.master() is not None, "a master")
        master = self.master()
        assert master is not None
        return master

    def _has_new_master(self, previous: Server) -> bool:
        master = self.master()
        if master is None or master is previous:
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
    """Run a master, its replicas and sentinels, which all know each other.

    `lines` are added to the configuration of the servers: ``"min-replicas-to-write 1"``.
    """
    login = [] if password is None else [f'masterauth "{password}"']
    with ExitStack() as stack:
        servers: list[Server] = []
        for number in range(1 + replicas):
            follow = [f"replicaof 127.0.0.1 {servers[0].port}"] if number else []
            # The first copy of a replica must not wait for further replicas.
            own = ["repl-diskless-sync-delay 0", *follow, *login, *lines]
            servers.append(_start(stack, Server(directory, *own, password=password)))
        wait_until(lambda: _replicas_of(servers[0]) == replicas, "replicas in step")
        watch = _sentinel_lines(servers[0].port, sentinels // 2 + 1, password, sentinel_password)
        watchers = [
            _start(stack, Server(directory, *watch, password=sentinel_password, sentinel=True))
            for _ in range(sentinels)
        ]
        for watcher in watchers:
            wait_until(partial(_knows_all, watcher, replicas, sentinels), "sentinels that know")
        yield Sentinels(_url(watchers, password, sentinel_password), servers, watchers)


def wait_until(condition: Callable[[], bool], goal: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until the condition holds; raise TimeoutError, which names the goal."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {goal}")
        time.sleep(0.05)


def _start(stack: ExitStack, server: Server) -> Server:
    stack.callback(server.kill)
    server.start()
    return server


def _url(sentinels: list[Server], password: str | None, sentinel_password: str | None) -> str:
    login = "" if password is None else f":{quote(password, '')}@"
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
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
    """Return the number of replicas in sync with the master."""
    with master.connect() as client:
        info: Any = client.info("replication")
    replicas = [info.get(f"slave{number}", {}) for number in range(info["connected_slaves"])]
    return sum(replica.get("state") == "online" for replica in replicas)


def _knows_all(sentinel: Server, replicas: int, sentinels: int) -> bool:
    with sentinel.connect() as client:
        state: Any = client.sentinel_master(MASTER_NAME)
        known: Any = client.sentinel_slaves(MASTER_NAME)
    up = [server for server in known if not (server["is_disconnected"] or server["is_sdown"])]
    return state["num-other-sentinels"] == sentinels - 1 and len(up) == replicas
