"""Hosts with addresses of their own on one machine: network namespaces on a bridge."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from demo.stack import ROOT

#: Of <sched.h>.
CLONE_NEWNET: Final = 0x40000000
#: Reserved for tests of networks (RFC 2544); no other host has such an address.
NETWORK: Final = "198.18.5"
#: Seconds for a process to end after SIGTERM.
END_S: Final = 30.0

T = TypeVar("T")


class NoNamespaces(Exception):
    """This machine makes no network namespaces; the message says why."""


@dataclass(frozen=True)
class Host:
    """A network namespace with one address."""

    namespace: str
    address: str
    #: The namespace of the bridge, and the host's port there.
    switch: str
    port: str

    @contextmanager
    def running(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a process on this host; end it with the block."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *command],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in a thread whose sockets belong to this host."""
        with ThreadPoolExecutor(1, initializer=self._enter) as thread:
            return thread.submit(function).result()

    def unplug(self) -> None:
        """Cut the host's cable: nobody learns of it, neither here nor there."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def _enter(self) -> None:
        file = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(file, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {self.namespace}")
        finally:
            os.close(file)


@contextmanager
def network_of(*names: str) -> Iterator[list[Host]]:
    """Make a host for each name, all on one bridge. Raises NoNamespaces."""
    if shutil.which("ip") is None:
        raise NoNamespaces("`ip` is not installed (Debian: iproute2)")
    if os.geteuid():
        raise NoNamespaces("only root makes network namespaces")
    prefix = f"bl{os.getpid()}"
    switch = f"{prefix}-switch"
    with ExitStack() as stack:
        try:
            _add_namespace(stack, switch)
            _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
            _ip("-n", switch, "link", "set", "bridge", "up")
            hosts = [
                _plug_in(
                    stack, Host(f"{prefix}-{name}", f"{NETWORK}.{number}", switch, f"p{number}")
                )
                for number, name in enumerate(names, 1)
            ]
        except subprocess.CalledProcessError as error:
            raise NoNamespaces(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from None
        yield hosts


def _plug_in(stack: ExitStack, host: Host) -> Host:
    """Make the host's namespace, and a cable from it to the bridge."""
    _add_namespace(stack, host.namespace)
    inside = ("-n", host.namespace)
    port = ("-n", host.switch, "link")
    _ip(*port, "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip(*port, "set", host.port, "master", "bridge", "up")
    _ip(*inside, "address", "add", f"{host.address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip(*inside, "link", "set", device, "up")
    return host


def _add_namespace(stack: ExitStack, name: str) -> None:
    _ip("netns", "add", name)
    stack.callback(partial(_ip, "netns", "delete", name))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
