"""SSRF guard (server-side request forgery): a policy of allowed hosts and addresses.

Only addresses of the public Internet are allowed, unless the settings allow others. AddressBlocked
is raised for any other address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

#: Reserved IPv4 networks that `is_global` of some Python versions accepts.
_RESERVED_V4: Final = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # the nearest 6to4 relay
    IPv4Network("224.0.0.0/4"),  # multicast
    IPv4Network("240.0.0.0/4"),  # not assigned
)
#: The IPv6 network that is allocated for global unicast.
_UNICAST_V6: Final = IPv6Network("2000::/3")
#: Networks in it without hosts of the public Internet.
_RESERVED_V6: Final = (
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("3fff::/20"),  # documentation
)
#: Prefix of a NAT64 translator, through which an IPv6 network reaches IPv4 hosts (RFC 6052).
_NAT64: Final = IPv6Network("64:ff9b::/96")
#: Upper half of an interface id before an embedded IPv4 address (ISATAP, RFC 5214).
_ISATAP: Final = (0x00005EFE, 0x02005EFE)

_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_NAME: Final = re.compile(rf"\.?({_LABEL}\.)*{_LABEL}")
#: Address parsers read a name whose last label is a number as an address: 127.1, 0x7f000001.
_NUMBER: Final = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")

_Address = IPv4Address | IPv6Address


class AddressBlocked(Exception):
    """The address is not allowed; the message contains the host, but no internal address."""


class AddressPolicy:
    """An immutable policy of allowed hosts and addresses.

    An entry is a name (`images.example.com`), a domain (`.example.com`: itself and its subdomains),
    an IP address or a network (`10.0.0.0/8`). Any other entry raises ValueError.

    ``allow``: hosts that are allowed although their address is not public.
    ``deny``: hosts that are denied, by name or address; it overrides the other lists.
    ``only``: the only allowed hosts, if the list has entries.
    """

    def __init__(
        self, allow: Sequence[str] = (), deny: Sequence[str] = (), only: Sequence[str] = ()
    ) -> None:
        self._allow = HostList(allow)
        self._deny = HostList(deny)
        self._only = HostList(only)

    def check_name(self, host: str) -> None:
        """Raise AddressBlocked if the host is not allowed at any address; do not resolve it."""
        if self._deny.names(host):
            raise AddressBlocked(f"{host} is denied by the settings")
        if self._only and not self._only.names(host) and not self._only.networks:
            raise AddressBlocked(f"{host} is not in the list of allowed hosts")

    def check(self, host: str, address: str) -> None:
        """Raise AddressBlocked unless this address, which the host resolved to, is allowed."""
        self.check_name(host)
        addresses = embedded_addresses(address)
        if any(self._deny.contains(ip) for ip in addresses):
            raise AddressBlocked(f"{host} has an address that the settings deny")
        if self._only and not (self._only.names(host) or all(map(self._only.contains, addresses))):
            raise AddressBlocked(f"{host} is not in the list of allowed hosts")
        internal = [ip for ip in addresses if "%" in address or not _is_global(ip)]
        if not self._allow.names(host) and not all(map(self._allow.contains, internal)):
            raise AddressBlocked(f"{host} has an address that is not public")


def split_list(text: str) -> tuple[str, ...]:
    """Return the entries of a setting, such as `10.0.0.0/8, images.example.com`."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def is_public(address: str) -> bool:
    """Return whether this IP address, and any address embedded in it, is public."""
    # An address with a zone belongs to one network.
    return "%" not in address and all(_is_global(ip) for ip in embedded_addresses(address))


class HostList:
    """A list of host names, domains and networks."""

    def __init__(self, entries: Iterable[str]) -> None:
        self.networks: list[IPv4Network | IPv6Network] = []
        self._names: set[str] = set()
        self._domains: tuple[str, ...] = ()
        for entry in entries:
            self._add(entry)

    def __bool__(self) -> bool:
        return bool(self.networks or self._names)

    def names(self, host: str) -> bool:
        """Return whether the host's name is in the list."""
        host = _normalize(host)
        return host in self._names or host.endswith(self._domains)

    def contains(self, address: _Address) -> bool:
        """Return whether the address is in one of the networks."""
        return any(address in network for network in self.networks)

    def _add(self, entry: str) -> None:
        try:
            self.networks.append(ipaddress.ip_network(entry))
            return
        except ValueError:
            name = _normalize(entry)
        if not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
            raise ValueError(
                f"{entry!r} is not a host name, domain (.example.com), IP address or network "
                "(10.0.0.0/8)"
            )
        self._names.add(name.removeprefix("."))
        if name.startswith("."):
            self._domains += (name,)


def _normalize(name: str) -> str:
    return name.lower().removesuffix(".")


def embedded_addresses(address: str) -> list[_Address]:
    """Return the address and the IPv4 addresses that are embedded in it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        # This is a notation of an IPv4 address: packets go only to the IPv4 address.
        return [ip.ipv4_mapped]
    number = int(ip)
    embedded = []
    if ip in _NAT64 or (number >> 32) & 0xFFFFFFFF in _ISATAP:
        embedded.append(IPv4Address(number & 0xFFFFFFFF))
    if ip.sixtofour is not None:
        embedded.append(ip.sixtofour)
    # Add the client's address of a Teredo address; the network 2001::/23 is blocked as well.
    embedded += (ip.teredo or ())[1:]
    return [ip, *embedded]


def _is_global(ip: _Address) -> bool:
    if isinstance(ip, IPv4Address):
        return ip.is_global and not any(ip in network for network in _RESERVED_V4)
    if ip in _NAT64:
        return True
    return ip in _UNICAST_V6 and not any(ip in network for network in _RESERVED_V6)
