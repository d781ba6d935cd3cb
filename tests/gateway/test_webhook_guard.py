"""The SSRF guard of new webhooks."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, Final

import pytest

from producer.gateway.http.problems import Problem
from producer.gateway.webhooks.webhook_guard import WebhookGuard
from producer.net.address_policy import AddressPolicy

#: Addresses of names; no other name resolves.
NAMES: Final = {
    "public.example.com": ["203.0.113.7", "8.8.8.8"],
    "mixed.example.com": ["8.8.8.8", "10.0.0.1"],
    "backend.example.com": ["8.8.8.8"],
    "internal": ["192.168.1.1"],
}


class Resolver:
    """A resolver of NAMES that records its calls; literal addresses resolve to themselves."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def __call__(self, host: str, port: int, **options: Any) -> list[Any]:
        self.hosts.append(host)
        if (name := host.removesuffix(".")) in NAMES:
            return [(0, 0, 0, "", (address, port)) for address in NAMES[name]]
        return socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST, **options)


async def refusal(guard: WebhookGuard, url: str, submitter: str = "anna") -> str:
    try:
        await guard.check(url, submitter)
    except Problem as problem:
        return f"{problem.code}: {problem.detail}"
    return ""


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0.0.0.0",
            "10.1.2.3",
            "169.254.169.254",
        ),
        *("[::1]", "[::ffff:10.0.0.1]", "[fe80::1]", "[64:ff9b::7f00:1]", "100.64.0.1"),
        *("internal", "INTERNAL.", "mixed.example.com", "public.example.com"),
    ],
)
def test_a_blocked_address_is_refused_at_once(host: str) -> None:
    guard = WebhookGuard(AddressPolicy(), Resolver())
    detail = asyncio.run(refusal(guard, f"https://{host}/hook"))
    assert detail.startswith("option_invalid: webhook: ")
    assert "BLIPLINE_WEBHOOK_ALLOW" in detail


def test_settings_allow_and_deny_hosts() -> None:
    policy = AddressPolicy(allow=("internal",), deny=("backend.example.com",))
    guard = WebhookGuard(policy, Resolver())
    assert not asyncio.run(refusal(guard, "http://internal:8080/hook"))
    assert "denied" in asyncio.run(refusal(guard, "http://backend.example.com/hook"))


def test_an_allowed_host_is_resolved_once_and_a_blocked_one_each_time() -> None:
    resolver = Resolver()
    guard = WebhookGuard(AddressPolicy(), resolver)

    async def check() -> None:
        urls = [f"https://backend.example.com/{number}" for number in range(9)]
        assert not any(await asyncio.gather(*(refusal(guard, url) for url in urls)))
        assert not await refusal(guard, "https://BACKEND.example.com/")
        assert all([await refusal(guard, "https://internal/") for _ in range(2)])
        await guard.check(None, "anna")

    asyncio.run(check())
    assert resolver.hosts == ["backend.example.com", "internal", "internal"]


def test_a_name_that_does_not_resolve_in_time_passes() -> None:
    answered = threading.Event()

    def silent(*arguments: Any, **options: Any) -> list[Any]:
        assert answered.wait(30)
        return []

    guard = WebhookGuard(AddressPolicy(), silent, resolve_s=0.01)
    check = refusal(guard, "https://backend.example.com/")

    async def run() -> None:
        assert not await check
        answered.set()

    asyncio.run(run())
    guard = WebhookGuard(AddressPolicy(), Resolver())
    assert not asyncio.run(refusal(guard, "https://unknown.example.com/"))


def test_slow_names_of_one_submitter_do_not_let_those_of_another_pass() -> None:
    answered, resolver = threading.Event(), Resolver()

    def resolve(host: str, *arguments: Any, **options: Any) -> list[Any]:
        if host.startswith("slow"):
            assert answered.wait(30)
        return resolver(host, *arguments, **options)

    guard = WebhookGuard(AddressPolicy(), resolve, resolve_s=5.0)

    async def check() -> None:
        slow = [
            asyncio.create_task(refusal(guard, f"https://slow{n}.example.com/")) for n in range(99)
        ]
        await asyncio.sleep(0)
        assert await refusal(guard, "https://internal/", "ben")
        answered.set()
        assert not any(await asyncio.gather(*slow))
        assert await refusal(guard, "https://internal/")

    asyncio.run(check())
