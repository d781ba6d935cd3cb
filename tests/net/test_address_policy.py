"""AddressPolicy, the guard against SSRF: allowed, denied and public addresses."""

from __future__ import annotations

import pytest

from producer.net.address_policy import AddressBlocked, AddressPolicy, is_public, split_list


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",
        "0.1.2.3",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::8.8.8.8",
        "::ffff:10.0.0.1",
        "::ffff:7f00:1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:0:808:808::f5ff:fffe",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2606:2800:220:1:0:5efe:10.0.0.1",
        "2606:2800:220:1:200:5efe:127.0.0.1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:2800:220:1::1%eth0",
        "fec0::1",
        "ff02::1",
        "4000::1",
    ],
)
def test_an_address_inside_a_network_is_not_public(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(AddressBlocked):
        AddressPolicy().check("some.host", address)


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "8.8.8.8",
        "223.255.255.254",
        "::ffff:8.8.8.8",
        "2606:2800:220:1::1",
        "2a00:1450:4001:82a::200e",
        "64:ff9b::5db8:d822",
        "2002:808:808::1",
        "2606:2800:220:1:0:5efe:8.8.8.8",
    ],
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)
    AddressPolicy().check("some.host", address)


@pytest.mark.parametrize(
    ("allow", "host", "address"),
    [
        ("10.0.0.0/8", "inner", "10.1.2.3"),
        ("10.0.0.0/8", "inner", "::ffff:10.1.2.3"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.3"),
        ("::1", "localhost", "::1"),
        ("fe80::/10", "printer", "fe80::1%eth0"),
        ("images.corp", "IMAGES.corp.", "10.1.2.3"),
        (".corp", "a.images.corp", "10.1.2.3"),
        (".corp", "corp", "10.1.2.3"),
        ("minio", "minio", "172.18.0.2"),
    ],
)
def test_an_allowed_address_need_not_be_public(allow: str, host: str, address: str) -> None:
    AddressPolicy(allow=[allow]).check(host, address)


@pytest.mark.parametrize(
    ("allow", "host", "address"),
    [
        ("10.0.0.0/8", "inner", "192.168.1.1"),
        ("10.1.2.3", "inner", "10.1.2.4"),
        ("10.0.0.0/8", "inner", "64:ff9b::7f00:1"),
        ("images.corp", "evil.images.corp", "10.1.2.3"),
        (".corp", "evilcorp", "10.1.2.3"),
        (".corp", "corp.evil.net", "10.1.2.3"),
        ("2000::/3", "inner", "2002:7f00:1::"),
    ],
)
def test_addresses_outside_the_allowed_networks_are_blocked(
    allow: str, host: str, address: str
) -> None:
    with pytest.raises(AddressBlocked, match="not public"):
        AddressPolicy(allow=[allow]).check(host, address)


@pytest.mark.parametrize(
    ("deny", "host", "address"),
    [
        ("93.184.216.0/24", "some.host", "93.184.216.34"),
        ("93.184.216.34", "some.host", "::ffff:93.184.216.34"),
        ("93.184.216.34", "some.host", "64:ff9b::5db8:d822"),
        ("some.host", "Some.Host", "93.184.216.34"),
        (".host", "some.host.", "93.184.216.34"),
    ],
)
def test_a_denied_host_is_blocked_by_name_and_by_address(
    deny: str, host: str, address: str
) -> None:
    AddressPolicy().check(host, address)
    for guard in (
        AddressPolicy(deny=[deny]),
        AddressPolicy([deny], [deny]),
        AddressPolicy([], [deny], [deny]),
    ):
        with pytest.raises(AddressBlocked, match=r"denied|settings deny"):
            guard.check(host, address)


def test_only_the_listed_hosts_are_allowed() -> None:
    guard = AddressPolicy(only=["images.example.com", ".example.org"])
    guard.check("images.example.com", "93.184.216.34")
    guard.check("a.example.org", "93.184.216.34")
    with pytest.raises(AddressBlocked, match="not in the list of allowed hosts"):
        guard.check_name("example.com")
    # A listed host still needs a public address.
    with pytest.raises(AddressBlocked, match="not public"):
        guard.check("images.example.com", "10.0.0.1")
    by_address = AddressPolicy(only=["93.184.216.0/24"])
    by_address.check("some.host", "93.184.216.34")
    by_address.check_name("some.host")
    with pytest.raises(AddressBlocked, match="not in the list of allowed hosts"):
        by_address.check("some.host", "8.8.8.8")


@pytest.mark.parametrize(
    "entry",
    [
        "",
        ".",
        "*.example.com",
        "https://example.com",
        "example.com:443",
        "example.com/x",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "127.1",
        "2130706433",
        "0x7f.1",
        "user@host",
        "bücher.example",
        "a..b",
        "[::1]",
        "-a.com",
    ],
)
def test_an_invalid_entry_is_rejected(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        AddressPolicy(allow=[entry])


def test_a_setting_has_entries_separated_by_commas() -> None:
    assert split_list(" 10.0.0.0/8, .example.com,,") == ("10.0.0.0/8", ".example.com")
    assert split_list(" ") == ()


def test_an_error_message_does_not_contain_the_internal_address() -> None:
    with pytest.raises(AddressBlocked) as raised:
        AddressPolicy().check("inner.example.com", "10.1.2.3")
    assert "10.1.2.3" not in str(raised.value)
    assert "inner.example.com" in str(raised.value)
