"""`blipline keys`: API keys and webhook secrets of the gateway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from ..connection.connect import connect, redis_errors
from ..errors import InvalidInput
from ..gateway.access.api_keys import ApiKeys, key_id_of, missing_secret, printable_key_id
from ..gateway.access.key_policy import KeyPolicy
from ..ledger.keys import Keys
from ..settings import ClientSettings
from . import options
from .exit_codes import Exit, warn
from .key_limits import (
    CLEARABLE,
    cleared_limits,
    given_limits,
    key_fields,
    limit_options,
    limit_texts,
    print_key,
    used_today,
    utc_text,
)
from .output import print_json, print_line


@click.group()
def keys() -> None:
    """Create, list and revoke API keys of the gateway.

    A key belongs to a name. All keys of a name have access to the same jobs, and only to them. To
    replace a key, create a second key, distribute it, and revoke the first key.

    \b
      blipline keys create acme
      blipline keys create acme --scope read --task caption --expires 30d --rate 60
      blipline keys list
      blipline keys show 3f9c0a51b27e
      blipline keys limit 3f9c0a51b27e --items-per-day 50000
      blipline keys revoke 3f9c0a51b27e
      blipline keys webhook-secret acme
    """


@keys.command()
@click.argument("name")
@limit_options
@options.as_json('Print {"name", "id", "key", "webhook_secret"} instead of only the key.')
@options.redis_url
def create(name: str, as_json: bool, redis_url: str | None, **limits: Any) -> Exit:
    """Create a key and print it; it cannot be displayed again.

    The first key of a name also creates the secret that signs its webhooks. The secret is printed
    on stderr.

    \b
      key=$(blipline keys create acme)
      blipline keys create acme --scope submit --scope read --task caption --expires 30d
      curl -H "Authorization: Bearer $key" http://127.0.0.1:8000/v1/queues
    """
    with _api_keys(redis_url) as api_keys:
        key = api_keys.create(name, KeyPolicy(**given_limits(limits)))
        secret = api_keys.webhook_secrets(name)[0]
    if as_json:
        print_json({"name": name, "id": key_id_of(key), "key": key, "webhook_secret": secret})
    else:
        print_line(key)
        warn(f"webhooks of {name} are signed with {secret}")
    return Exit.OK


@keys.command(name="list")
@options.as_json(
    'Print a JSON line for each key: {"id", "name", "created_at", "private_images"}, and '
    "the limits that the key has."
)
@options.redis_url
def list_(as_json: bool, redis_url: str | None) -> Exit:
    """Print a line for each key, the oldest first.

    The tab-separated fields: id, name, time of creation (UTC), and the limits of the key.

    \b
      blipline keys list
      blipline keys list --json | jq -r 'select(.name == "acme").id'
    """
    with _api_keys(redis_url) as api_keys:
        records = api_keys.list()
    for key in records:
        if as_json:
            print_json(key_fields(key))
        else:
            print_line(
                "\t".join([key.id, key.name, utc_text(key.created_at), *limit_texts(key.policy)])
            )
    if not records:
        warn("no keys: `blipline keys create NAME` creates one")
    return Exit.OK


@keys.command()
@click.argument("key_id", metavar="ID")
@options.as_json("Print the fields as a JSON object.")
@options.redis_url
def show(key_id: str, as_json: bool, redis_url: str | None) -> Exit:
    """Print a key's name and limits, given its id or the key itself.

    The key cannot be displayed: Redis stores only its hash.

    \b
      blipline keys show 3f9c0a51b27e
      blipline keys show 3f9c0a51b27e --json
    """
    settings = ClientSettings.load(redis_url=redis_url)
    with _api_keys(redis_url) as api_keys:
        key = api_keys.get(key_id_of(key_id) or key_id)
    used = {} if key is None else used_today(key, settings)
    return print_key(key_id, key, used, as_json=as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@limit_options
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(CLEARABLE),
    help="Remove the limit of this option; repeatable.",
)
@options.as_json("Print the fields of the key as a JSON object.")
@options.redis_url
def limit(
    key_id: str, clear: Sequence[str], as_json: bool, redis_url: str | None, **limits: Any
) -> Exit:
    """Change limits of a key, given its id or the key itself; the others stay.

    Gateways apply the change within 5 seconds.

    \b
      blipline keys limit 3f9c0a51b27e --rate 120 --items-per-day 50000
      blipline keys limit 3f9c0a51b27e --clear expires --clear scope
    """
    changes = given_limits(limits)
    cleared = cleared_limits(clear)
    if twice := changes.keys() & cleared.keys():
        raise click.UsageError(f"{min(twice)}: set it, or clear it")
    if not changes and not cleared:
        raise click.UsageError("give a limit, or --clear with the name of one")
    with _api_keys(redis_url) as api_keys:
        key = api_keys.change(key_id_of(key_id) or key_id, changes | cleared)
    return print_key(key_id, key, {}, as_json=as_json)


@keys.command()
@click.argument("key_id", metavar="[ID]", required=False)
@click.option("--name", metavar="NAME", help="Revoke all keys of a name.")
@options.as_json('Print {"keys"} instead of only the number.')
@options.redis_url
def revoke(key_id: str | None, name: str | None, as_json: bool, redis_url: str | None) -> Exit:
    """Revoke keys, and print their number.

    Jobs and results are kept. Gateways cache keys for 5 seconds, so a revoked key may be
    accepted for that long.

    \b
      blipline keys revoke 3f9c0a51b27e
      blipline keys revoke --name acme
    """
    if (key_id is None) == (name is None):
        raise click.UsageError("give either an id (`blipline keys list` prints them) or --name")
    with _api_keys(redis_url) as api_keys:
        if name is not None:
            revoked = api_keys.revoke_all(name)
        else:
            revoked = int(api_keys.revoke(key_id or ""))
    if not revoked:
        raise InvalidInput(f"{name or printable_key_id(key_id or '')}: no such key")
    if as_json:
        print_json({"keys": revoked})
    else:
        print_line(str(revoked))
    return Exit.OK


@keys.command(name="webhook-secret")
@click.argument("name")
@click.option(
    "--rotate", is_flag=True, help="Create a new secret; the old one also signs for 24 hours."
)
@options.as_json('Print {"name", "webhook_secrets"}, the newest first.')
@options.redis_url
def webhook_secret(name: str, rotate: bool, as_json: bool, redis_url: str | None) -> Exit:
    """Print the newest secret that signs the webhooks of a name.

    During a rotation both secrets sign, so that receivers can switch at any time.

    \b
      blipline keys webhook-secret acme
      blipline keys webhook-secret acme --rotate
    """
    with _api_keys(redis_url) as api_keys:
        if rotate:
            api_keys.rotate_webhook_secret(name)
        secrets = api_keys.webhook_secrets(name)
    if not secrets:
        raise missing_secret(name)
    if as_json:
        print_json({"name": name, "webhook_secrets": secrets})
    else:
        print_line(secrets[0])
    return Exit.OK


@contextmanager
def _api_keys(redis_url: str | None) -> Iterator[ApiKeys]:
    settings = ClientSettings.load(redis_url=redis_url)
    with connect(settings.redis_url) as client, redis_errors(settings.redis_url):
        yield ApiKeys(client, Keys(settings.key_prefix))
