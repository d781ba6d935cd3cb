"""Login sessions, each opened with an API key."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ..gateway.access.api_keys import ApiKey
from ..gateway.access.permissions import check_page
from ..gateway.access.tenants import Tenant
from ..gateway.http.lru import FairLRUCache
from ..gateway.http.problems import Problem

#: Lifetime of a session in seconds.
SESSION_S: Final = 12 * 3600.0
#: Maximum sessions; above it, the name with the most sessions loses its least recently used one.
MAX_SESSIONS: Final = 10_000

#: Returns the stored key, given a key and the client's address; raises Problem if it is invalid.
Authenticate = Callable[[str, str], Awaitable[ApiKey]]


@dataclass(frozen=True, slots=True)
class _Session:
    key: str
    ends_at: float


class Sessions:
    """Sessions of this process by token. A revoked key ends its sessions."""

    def __init__(
        self,
        authenticate: Authenticate,
        clock: Callable[[], float] = time.monotonic,
        max_sessions: int = MAX_SESSIONS,
    ) -> None:
        self._authenticate = authenticate
        self._clock = clock
        self._open: FairLRUCache[str, _Session] = FairLRUCache(max_sessions)

    async def authenticate(self, key: str, address: str) -> Tenant:
        """Return the tenant of a key; raises Problem if it is invalid or limited."""
        tenant = Tenant.of(await self._authenticate(key, address))
        check_page(tenant.policy)
        return tenant

    def open(self, key: str, tenant: Tenant) -> str:
        """Open a session of an authenticated tenant and return its token."""
        token = secrets.token_urlsafe(32)
        self._open.put(tenant.name, token, _Session(key, self._clock() + SESSION_S))
        return token

    async def tenant(self, token: str, address: str) -> Tenant | None:
        """Return the tenant of a session; None if it has ended or never existed."""
        session = self._open.get(token)
        if session is None or self._clock() >= session.ends_at:
            self.close(token)
            return None
        try:
            return await self.authenticate(session.key, address)
        except Problem:
            self.close(token)
            return None

    def close(self, token: str) -> None:
        """End a session."""
        self._open.drop(token)
