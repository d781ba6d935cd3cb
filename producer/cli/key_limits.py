"""Limits of API keys in the command line: their options, and their output."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from ..connection.connect import connect
from ..contract import Task
from ..errors import InvalidInput
from ..gateway.access.api_keys import ApiKey, printable_key_id
from ..gateway.access.daily_quotas import DailyQuotas, QuotaUnit, daily_limit
from ..gateway.access.image_access import parse_image_prefix
from ..gateway.access.key_policy import NO_LIMITS, SCOPES, KeyPolicy
from ..ledger.keys import Keys
from ..settings import ClientSettings
from .exit_codes import Exit
from .output import print_json, print_line

Command = TypeVar("Command", bound=Callable[..., Any])

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


#: The options, in the order of the help.
_OPTIONS: Final = (
    click.option(
        "--scope",
        "scopes",
        multiple=True,
        type=click.Choice(SCOPES),
        help="Allow only submissions (submit), reading (read), or cancellations and deletions "
        "(manage); repeatable.",
    ),
    click.option(
        "--task",
        "tasks",
        multiple=True,
        type=click.Choice([task.short for task in Task]),
        help="Allow only jobs of this task; repeatable.",
    ),
    click.option(
        "--no-private-images",
        is_flag=True,
        help="Deny file: and object store references (s3://) in requests with this key.",
    ),
    click.option(
        "--image-prefix",
        "image_prefixes",
        multiple=True,
        metavar="PREFIX",
        help="Allow of these references only those under file:folder/ or s3://bucket/path/; "
        "repeatable.",
    ),
    click.option(
        "--expires", type=Duration(), metavar="TIME", help="Expire after 30d, 12h or 90m."
    ),
    click.option(
        "--rate",
        type=click.IntRange(1),
        metavar="N",
        help="Maximum requests per minute of this key.",
    ),
    click.option(
        "--items-per-day",
        type=click.IntRange(1),
        metavar="N",
        help="Maximum items that it submits on a day (UTC).",
    ),
    click.option(
        "--mb-per-day",
        type=click.IntRange(1),
        metavar="N",
        help="Maximum MiB of the request bodies that it sends on a day (UTC).",
    ),
)
#: Field of the policy of each option that can be cleared.
_FIELDS: Final = {
    "scope": "scopes",
    "task": "tasks",
    "image-prefix": "image_prefixes",
    "expires": "expires_at",
    "rate": "rate",
    "items-per-day": "items_per_day",
    "mb-per-day": "mb_per_day",
}
CLEARABLE: Final = tuple(_FIELDS)


def limit_options(command: Command) -> Command:
    """Add the options of a key's limits to a command, which receives them by name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given_limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a policy that the options set; raises InvalidInput."""
    limits = {name: value for name, value in options.items() if value not in (None, (), False)}
    if (seconds := limits.pop("expires", None)) is not None:
        limits["expires_at"] = time.time() + seconds
    prefixes = [parse_image_prefix(text) for text in limits.pop("image_prefixes", ())]
    if limits.pop("no_private_images", False):
        if prefixes:
            raise click.UsageError("--image-prefix allows images that --no-private-images denies")
        limits["image_prefixes"] = ()
    return limits | ({"image_prefixes": prefixes} if prefixes else {})


def cleared_limits(names: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a policy without the limits of these options."""
    return {field: getattr(NO_LIMITS, field) for field in (_FIELDS[name] for name in names)}


def key_fields(key: ApiKey) -> dict[str, Any]:
    """Return the fields of a key for JSON."""
    base = {"id": key.id, "name": key.name, "created_at": key.created_at}
    return {**base, **key.policy.to_json(), "private_images": key.policy.private_images}


def limit_texts(policy: KeyPolicy) -> list[str]:
    """Return the limits of a key as texts."""
    fields = policy.to_json()
    texts = [] if policy.private_images else ["no-private-images"]
    texts += [
        f"{label}={','.join(fields[name])}"
        for label, name in (
            *(("scopes", "scopes"), ("tasks", "tasks")),
            ("image-prefixes", "image_prefixes"),
        )
        if name in fields
    ]
    if policy.expires_at is not None:
        state = "expired" if policy.has_expired(time.time()) else "expires"
        texts.append(f"{state}={utc_text(policy.expires_at)}")
    counts = (
        *(("rate", policy.rate, "/min"), ("items", policy.items_per_day, "/day")),
        ("bytes", policy.mb_per_day, " MiB/day"),
    )
    return texts + [f"{label}={count}{unit}" for label, count, unit in counts if count is not None]


def utc_text(unix_s: float) -> str:
    """Return a Unix time in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def used_today(key: ApiKey, settings: ClientSettings) -> dict[str, int]:
    """Return what a key has used of its daily quotas."""
    units: tuple[QuotaUnit, ...] = ("items", "bytes")
    with connect(settings.redis_url) as client:
        quotas = DailyQuotas(client, Keys(settings.key_prefix), settings.redis_url)
        return {
            unit: quotas.take(key.id, unit, 0)[1]
            for unit in units
            if daily_limit(key.policy, unit) is not None
        }


def print_key(key_id: str, key: ApiKey | None, used: Mapping[str, int], *, as_json: bool) -> Exit:
    """Print the fields of a key; raises InvalidInput if there is none."""
    if key is None:
        raise InvalidInput(f"{printable_key_id(key_id)}: no such key")
    if as_json:
        print_json(key_fields(key) | ({"used_today": used} if used else {}))
        return Exit.OK
    for label, text in (("id", key.id), ("name", key.name), ("created", utc_text(key.created_at))):
        print_line(f"{label}\t{text}")
    for limit_text in limit_texts(key.policy) or ["no limits of its own"]:
        print_line(f"limit\t{limit_text}")
    for unit, amount in used.items():
        print_line(f"used today\t{unit}={amount}")
    return Exit.OK
