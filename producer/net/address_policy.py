"""Which addresses may be connected to: those of the public Internet, unless settings say more.

AddressBlocked is raised for what is never to be connected to.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

#: Of IPv4, what Python's `is_global` lets pass in some of its versions.
_RESERVED_V4: Final = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # the nearest 6to4 relay
    IPv4Network("224.0.0.0/4"),  # multicast
    IPv4Network("240.0.0.0/4"),  # not assigned
)
#: All of IPv6 that has been given out as global unicast.
_UNICAST_V6: Final = IPv6Network("2000::/3")
#: What is in there, but leads to no host of the public Internet.
_RESERVED_V6: Final = (
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("3fff::/20"),  # documentation
)
#: A translator's prefix: the way to IPv4 hosts where a network has IPv6 alone (RFC 6052).
_NAT64: Final = IPv6Network("64:ff9b::/96")
#: The upper half of an interface id that an IPv4 address follows (ISATAP, RFC 5214).
_ISATAP: Final = (0x00005EFE, 0x02005EFE)

_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_NAME: Final = re.compile(rf"\.?({_LABEL}\.)*{_LABEL}")
#: Readers of addresses take a name for a number if its last label is one: 127.1, 0x7f000001.
_NUMBER: Final = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")

_Address = IPv4Address | IPv6Address


class AddressBlocked(Exception):
    """Never to be connected to; the message names the host, but not its inner address."""


class AddressPolicy:
    """Which hosts may be connected to; immutable.

    An entry is a name (`images.example.com`), a domain (`.example.com`: itself and all below it),
    an IP address or a network (`10.0.0.0/8`). Raises ValueError for any other.

    ``allow``: may be connected to although the address is not public.
    ``deny``: may not, by whatever name or address; it wins over the others.
    ``only``: no host but these, if any is given.
    """

    def __init__(
        self, allow: Sequence[str] = (), deny: Sequence[str] = (), only: Sequence[str] = ()
    ) -> None:
        self._allow = HostList(allow)
        self._deny = HostList(deny)
        self._only = HostList(only)

    def check_name(self, host: str) -> None:
        """Raises AddressBlocked if no address would make this host allowed; looks nothing up."""
        if self._deny.names(host):
            raise AddressBlocked(f"{host} is denied by the settings")
        if self._only and not self._only.names(host) and not self._only.networks:
            raise AddressBlocked(f"{host} is none of the hosts that the settings allow")

    def check(self, host: str, address: str) -> None:
        """Raises AddressBlocked unless this address, which the host resolved to, is allowed."""
        self.check_name(host)
        faces = embedded_addresses(address)
        if any(self._deny.holds(face) for face in faces):
            raise AddressBlocked(f"{host} is denied by the settings, by its address")
        if self._only and not (self._only.names(host) or all(map(self._only.holds, faces))):
            raise AddressBlocked(f"{host} is none of the hosts that the settings allow")
        inner = [face for face in faces if "%" in address or not _is_global(face)]
        if not self._allow.names(host) and not all(map(self._allow.holds, inner)):
            raise AddressBlocked(f"{host} is at an address that is not public")


def split_list(text: str) -> tuple[str, ...]:
    """The entries of a setting: `10.0.0.0/8, images.example.com`."""
    return tuple(one.strip() for one in text.split(",") if one.strip())


def is_public(address: str) -> bool:
    """Whether this IP address belongs to the public Internet, and hides no other in itself."""
    # One with a zone is known in one network alone.
    return "%" not in address and all(_is_global(face) for face in embedded_addresses(address))


class HostList:
    """Entries of one list."""

    def __init__(self, given: Iterable[str]) -> None:
        self.networks: list[IPv4Network | IPv6Network] = []
        self._names: set[str] = set()
        self._domains: tuple[str, ...] = ()
        for entry in given:
            self._add(entry)

    def __bool__(self) -> bool:
        return bool(self.networks or self._names)

    def names(self, host: str) -> bool:
        """Whether the host's name is in the list."""
        host = _plain(host)
        return host in self._names or host.endswith(self._domains)

    def holds(self, address: _Address) -> bool:
        """Whether the address is in one of the networks."""
        return any(address in network for network in self.networks)

    def _add(self, entry: str) -> None:
        try:
            self.networks.append(ipaddress.ip_network(entry))
            return
        except ValueError:
            name = _plain(entry)
        if not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
            raise ValueError(
                f"{entry!r} is no host name, domain (.example.com), IP address or network "
                "(10.0.0.0/8)"
            )
        self._names.add(name.removeprefix("."))
        if name.startswith("."):
            self._domains += (name,)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def embedded_addresses(address: str) -> list[_Address]:
    """The address and the IPv4 address that it leads to, if it holds one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        # Another way to write an IPv4 address: no packet ever bears it.
        return [ip.ipv4_mapped]
    number = int(ip)
    inner = []
    if ip in _NAT64 or (number >> 32) & 0xFFFFFFFF in _ISATAP:
        inner.append(IPv4Address(number & 0xFFFFFFFF))
    if ip.sixtofour is not None:
        inner.append(ip.sixtofour)
    # The client of a Teredo address; 2001::/23, in which it is, is blocked as well.
    inner += (ip.teredo or ())[1:]
    return [ip, *inner]


def _is_global(ip: _Address) -> bool:
    if isinstance(ip, IPv4Address):
        return ip.is_global and not any(ip in network for network in _RESERVED_V4)
    if ip in _NAT64:
        return True
    return ip in _UNICAST_V6 and not any(ip in network for network in _RESERVED_V6)
