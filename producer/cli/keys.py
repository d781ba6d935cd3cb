"""`blipline keys`: who may use the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from ..connection.connect import connect, redis_errors
from ..errors import InvalidInput
from ..gateway.api_keys import ApiKeys, id_of, no_secret, shown_id
from ..ledger.keys import Keys
from ..settings import ClientSettings
from . import options
from .exit_codes import Exit, warn
from .output import print_json, print_line


@click.group()
def keys() -> None:
    """Make, list and revoke API keys of the gateway.

    A key belongs to a name: all keys of a name see the same jobs, and no other name's. To replace
    one, make a second, hand it out, and revoke the first.

    \b
      blipline keys create acme
      blipline keys list
      blipline keys revoke 3f9c0a51b27e
      blipline keys webhook-secret acme
    """


@keys.command()
@click.argument("name")
@options.as_json('Print {"name", "id", "key", "webhook_secret"} instead of the key alone.')
@options.redis_url
def create(name: str, as_json: bool, redis_url: str | None) -> Exit:
    """Make a key and print it: it is never shown again.

    The name's webhooks are signed with a secret that comes with its first key; it goes to stderr.

    \b
      key=$(blipline keys create acme)
      curl -H "Authorization: Bearer $key" http://127.0.0.1:8000/v1/queues
    """
    with _api_keys(redis_url) as api_keys:
        key = api_keys.create(name)
        secret = api_keys.webhook_secrets(name)[0]
    if as_json:
        print_json({"name": name, "id": id_of(key), "key": key, "webhook_secret": secret})
    else:
        print_line(key)
        warn(f"webhooks of {name} are signed with {secret}")
    return Exit.OK


@keys.command(name="list")
@options.as_json('A JSON line for each key: {"id", "name", "created_at"}.')
@options.redis_url
def list_(as_json: bool, redis_url: str | None) -> Exit:
    """Print a line for each key, the oldest first: its id, its name, when it was made (UTC).

    \b
      blipline keys list
      blipline keys list --json | jq -r 'select(.name == "acme").id'
    """
    with _api_keys(redis_url) as api_keys:
        found = api_keys.list()
    for key in found:
        if as_json:
            print_json({"id": key.id, "name": key.name, "created_at": key.created_at})
        else:
            made = datetime.fromtimestamp(key.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            print_line(f"{key.id}\t{key.name}\t{made}")
    if not found:
        warn("no keys: `blipline keys create NAME` makes one")
    return Exit.OK


@keys.command()
@click.argument("key_id", metavar="[ID]", required=False)
@click.option("--name", metavar="NAME", help="All keys of a name, in place of an id.")
@options.as_json('Print {"keys"} instead of the number alone.')
@options.redis_url
def revoke(key_id: str | None, name: str | None, as_json: bool, redis_url: str | None) -> Exit:
    """Let a key in no more, and print how many keys that were; jobs and results stay.

    Gateways remember keys for 5 seconds: so long it may still be let in.

    \b
      blipline keys revoke 3f9c0a51b27e
      blipline keys revoke --name acme
    """
    if (key_id is None) == (name is None):
        raise click.UsageError("give an id (`blipline keys list` has them), or --name: one of both")
    with _api_keys(redis_url) as api_keys:
        if name is not None:
            revoked = api_keys.revoke_all(name)
        else:
            revoked = int(api_keys.revoke(key_id or ""))
    if not revoked:
        raise InvalidInput(f"{name or shown_id(key_id or '')}: there is no such key")
    if as_json:
        print_json({"keys": revoked})
    else:
        print_line(str(revoked))
    return Exit.OK


@keys.command(name="webhook-secret")
@click.argument("name")
@click.option("--rotate", is_flag=True, help="Make a new one; the old one signs on for 24 hours.")
@options.as_json('Print {"name", "webhook_secrets"}, the newest first.')
@options.redis_url
def webhook_secret(name: str, rotate: bool, as_json: bool, redis_url: str | None) -> Exit:
    """Print what webhooks of a name are signed with: the newest secret.

    While an old one is replaced, both sign, so receivers can change over at any time.

    \b
      blipline keys webhook-secret acme
      blipline keys webhook-secret acme --rotate
    """
    with _api_keys(redis_url) as api_keys:
        if rotate:
            api_keys.rotate_webhook_secret(name)
        found = api_keys.webhook_secrets(name)
    if not found:
        raise no_secret(name)
    if as_json:
        print_json({"name": name, "webhook_secrets": found})
    else:
        print_line(found[0])
    return Exit.OK


@contextmanager
def _api_keys(redis_url: str | None) -> Iterator[ApiKeys]:
    settings = ClientSettings.load(redis_url=redis_url)
    with connect(settings.redis_url) as client, redis_errors(settings.redis_url):
        yield ApiKeys(client, Keys(settings.key_prefix))
