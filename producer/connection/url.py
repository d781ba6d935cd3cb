"""Where Redis is: what the setting `redis_url` says.

::

    redis://[[user]:password@]host[:port][/database]
    rediss://…                                          the same over TLS
    sentinel://[[user]:password@]host[:port][,host[:port]…][/database][?master=name]
    sentinels://…                                       the same over TLS, to the sentinels too

User and password are those of the Redis itself. Options follow a question mark:

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
#: The name that Sentinel's own documentation and most charts give.
DEFAULT_MASTER: Final = "mymaster"

#: Scheme: is it Sentinel, is it TLS.
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
    """A Redis: one server, or the master that sentinels name."""

    #: Names or addresses (of IPv6 without brackets) and ports; of the sentinels, if there are any.
    hosts: tuple[tuple[str, int], ...]
    database: int = 0
    username: str | None = None
    password: str | None = None
    #: redis-py's options for TLS, never empty; None: no TLS.
    tls: dict[str, Any] | None = None
    #: What the sentinels call the master; None: there are no sentinels.
    master: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL; raises InvalidInput with a sentence that shows no password."""
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
    """The URL as it may appear in messages and logs, be it well-formed or not."""
    url = re.sub(r"(password=)[^&#]*", r"\1***", url, flags=re.IGNORECASE)
    # Up to the last @: a password that was not quoted may hold any of the separators.
    hidden = re.sub(r"(://[^:@/]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    # What stands alone before it is more often a password than a user.
    return hidden if hidden != url else re.sub(r"^(\w+:/*)?.*@", r"\1***@", url, flags=re.DOTALL)


def _hosts(text: str, scheme: str) -> tuple[tuple[str, int], ...]:
    by_sentinel, _ = _SCHEMES[scheme]
    hosts = []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        port = int(match["port"] or (SENTINEL_PORT if by_sentinel else REDIS_PORT)) if match else 0
        if match is None or not 0 < port < 65536:
            raise InvalidInput(
                f"must look like {scheme}://host:port, and {part!r} is no host and port: an IPv6 "
                "address stands in brackets"
            )
        hosts.append((match["ipv6"] or unquote(match["name"]), port))
    if len(hosts) > 1 and not by_sentinel:
        raise InvalidInput(
            f"must look like {scheme}://host:port, with one host: several are for sentinel://"
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
            raise InvalidInput(f"must look like {scheme}://host: it {takes}, and not {name!r}")
        # Not what forms do, where + is a space: a password may hold one.
        options[name] = unquote(value)
    return options


def _tls(options: dict[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {name: options[name] for name in _TLS_OPTIONS if options.get(name)}
    for name in _FILES:
        if name in given and not Path(given[name]).is_file():
            raise InvalidInput(f"{name}={given[name]!r}: there is no such file")
    # Celery's own URLs say CERT_REQUIRED.
    reqs = given.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if reqs not in ("required", "optional", "none"):
        raise InvalidInput(f"ssl_cert_reqs={reqs!r}: choose required, optional or none")
    checked = str(given.get("ssl_check_hostname", "true")).lower()
    if checked not in ("true", "false", "1", "0"):
        raise InvalidInput(f"ssl_check_hostname={checked!r}: choose true or false")
    return {**given, "ssl_cert_reqs": reqs, "ssl_check_hostname": checked in ("true", "1")}
