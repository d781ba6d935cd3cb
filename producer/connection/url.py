"""The URL of Redis, in the form of the setting `redis_url`, and its redaction.

::

    redis://[[user]:password@]host[:port][/database]
    rediss://…                                          the same over TLS
    sentinel://[[user]:password@]host[:port][,host[:port]…][/database][?master=name]
    sentinels://…                                       the same over TLS, also to the sentinels

User and password are those of Redis itself. Options follow a question mark:

- for TLS `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` (required, optional or
  none) and `ssl_check_hostname`, with redis-py's meaning;
- for Sentinel `master` (mymaster), `sentinel_username` and `sentinel_password`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote

from ..errors import InvalidInput

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
#: Master name of Sentinel's documentation and of most charts.
DEFAULT_MASTER: Final = "mymaster"

#: Scheme: (Sentinel, TLS).
_SCHEMES: Final = {
    "redis": (False, False),
    "rediss": (False, True),
    "sentinel": (True, False),
    "sentinels": (True, True),
}
_URL: Final = re.compile(
    r"(?P<scheme>\w+)://"
    r"(?:(?P<username>[^:@/?#]*)(?::(?P<password>[^/?#]*))?@)?"
    r"(?P<hosts>[^@/?#]+)"
    r"(?:/(?P<database>[0-9]*))?"
    r"(?:\?(?P<options>[^#]*))?"
)
_HOST: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:,]+))(?::(?P<port>\d+))?"
)
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS: Final = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname")
_SENTINEL_OPTIONS: Final = ("master", "sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a Redis: one server, or the master of a group of sentinels."""

    #: Names or addresses (IPv6 without brackets) and ports of the server, or of the sentinels.
    hosts: tuple[tuple[str, int], ...]
    database: int = 0
    username: str | None = None
    password: str | None = None
    #: redis-py's options for TLS, never empty; None without TLS.
    tls: dict[str, Any] | None = None
    #: Name of the master; None without sentinels.
    master: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL; raise InvalidInput with a message that shows no password."""
        match = _URL.fullmatch(url)
        scheme = match["scheme"].lower() if match else ""
        if match is None or scheme not in _SCHEMES:
            raise InvalidInput(
                "must look like redis://[user:password@]host[:port][/database], rediss:// for TLS, "
                "or sentinel://[user:password@]host[:port],host[:port]/database?master=name "
                "(sentinels:// for TLS); in a password / ? # % are written %2F %3F %23 %25"
            )
        by_sentinel, by_tls = _SCHEMES[scheme]
        options = _options(match["options"] or "", scheme)
        return cls(
            hosts=_hosts(match["hosts"], scheme),
            database=int(match["database"] or 0),
            username=unquote(match["username"] or "") or None,
            password=unquote(match["password"] or "") or None,
            tls=_tls(options) if by_tls else None,
            master=(options.get("master") or DEFAULT_MASTER) if by_sentinel else None,
            sentinel_username=options.get("sentinel_username") or None,
            sentinel_password=options.get("sentinel_password") or None,
        )


def redact_password(url: str) -> str:
    """Redact the password of a URL, also of a malformed one, for messages and logs."""
    url = re.sub(r"(password=)[^&#]*", r"\1***", url, flags=re.IGNORECASE)
    # Up to the last @: a password that is not quoted may contain any of the separators.
    redacted = re.sub(r"(://[^:@/]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    # A single word before the @ is more often a password than a user name.
    return (
        redacted if redacted != url else re.sub(r"^(\w+:/*)?.*@", r"\1***@", url, flags=re.DOTALL)
    )


def _hosts(text: str, scheme: str) -> tuple[tuple[str, int], ...]:
    by_sentinel, _ = _SCHEMES[scheme]
    hosts = []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        port = int(match["port"] or (SENTINEL_PORT if by_sentinel else REDIS_PORT)) if match else 0
        if match is None or not 0 < port < 65536:
            raise InvalidInput(
                f"must look like {scheme}://host:port; {part!r} is not a host and port. An IPv6 "
                "address needs brackets"
            )
        hosts.append((match["ipv6"] or unquote(match["name"]), port))
    if len(hosts) > 1 and not by_sentinel:
        raise InvalidInput(
            f"must look like {scheme}://host:port, with one host; sentinel:// takes several"
        )
    return tuple(hosts)


def _options(text: str, scheme: str) -> dict[str, str]:
    by_sentinel, by_tls = _SCHEMES[scheme]
    known = (*(_SENTINEL_OPTIONS if by_sentinel else ()), *(_TLS_OPTIONS if by_tls else ()))
    options = {}
    for part in text.split("&") if text else ():
        name, _, value = part.partition("=")
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes no options"
            raise InvalidInput(f"must look like {scheme}://host: it {takes}, not {name!r}")
        # Not unquote_plus: a password may contain a +.
        options[name] = unquote(value)
    return options


def _tls(options: dict[str, str]) -> dict[str, Any]:
    tls: dict[str, Any] = {name: options[name] for name in _TLS_OPTIONS if options.get(name)}
    for name in _FILES:
        if name in tls and not Path(tls[name]).is_file():
            raise InvalidInput(f"{name}={tls[name]!r}: there is no such file")
    # Celery writes CERT_REQUIRED.
    reqs = tls.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if reqs not in ("required", "optional", "none"):
        raise InvalidInput(f"ssl_cert_reqs={reqs!r}: choose required, optional or none")
    checked = str(tls.get("ssl_check_hostname", "true")).lower()
    if checked not in ("true", "false", "1", "0"):
        raise InvalidInput(f"ssl_check_hostname={checked!r}: choose true or false")
    return {**tls, "ssl_cert_reqs": reqs, "ssl_check_hostname": checked in ("true", "1")}
