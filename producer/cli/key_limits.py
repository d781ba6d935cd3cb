"""Limits of API keys in the command line: their options, and their texts."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any, Final

import click

from ..gateway.api_keys import ApiKey
from ..gateway.key_policy import KeyPolicy

#: Seconds of the units of a duration.
_UNITS_S: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0}


class Duration(click.ParamType[float]):
    """A time such as 30d, 12h or 90m, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the seconds; fails for another text."""
        match = re.fullmatch(r"(\d{1,6})([dhm])", str(value))
        if match is None or int(match[1]) == 0:
            self.fail(f"{value!r:.50}: give days, hours or minutes: 30d, 12h, 90m", param, ctx)
        return int(match[1]) * _UNITS_S[match[2]]


DURATION: Final = Duration()


def key_fields(key: ApiKey) -> dict[str, Any]:
    """Return the fields of a key for JSON."""
    base = {"id": key.id, "name": key.name, "created_at": key.created_at}
    return {**base, "private_images": key.private_images, **key.policy.fields()}


def limit_texts(policy: KeyPolicy) -> list[str]:
    """Return the limits of a key as texts."""
    fields = policy.fields()
    texts = [] if policy.private_images else ["no-private-images"]
    texts += [f"{name}={','.join(fields[name])}" for name in ("scopes", "tasks") if name in fields]
    if policy.expires_at is not None:
        state = "expired" if policy.has_expired(time.time()) else "expires"
        texts.append(f"{state}={utc_text(policy.expires_at)}")
    return texts if policy.rate is None else [*texts, f"rate={policy.rate}/min"]


def utc_text(unix_s: float) -> str:
    """Return a Unix time in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
