"""`blipline keys`: API keys and webhook secrets of the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from ..connection.connect import connect, redis_errors
from ..errors import InvalidInput
from ..gateway.api_keys import ApiKeys, key_id_of, missing_secret, printable_key_id
from ..ledger.keys import Keys
from ..settings import ClientSettings
from . import options
from .exit_codes import Exit, warn
from .output import print_json, print_line


@click.group()
def keys() -> None:
    """Create, list and revoke API keys of the gateway.

    A key belongs to a name. All keys of a name have access to the same jobs, and only to them. To
    replace a key, create a second key, distribute it, and revoke the first key.

    \b
      blipline keys create acme
      blipline keys list
      blipline keys revoke 3f9c0a51b27e
      blipline keys webhook-secret acme
    """


@keys.command()
@click.argument("name")
@click.option(
    "--no-private-images",
    is_flag=True,
    help="Deny file: and object store references (s3://) in requests with this key.",
)
@options.as_json('Print {"name", "id", "key", "webhook_secret"} instead of only the key.')
@options.redis_url
def create(name: str, no_private_images: bool, as_json: bool, redis_url: str | None) -> Exit:
    """Create a key and print it; it cannot be displayed again.

    The first key of a name also creates the secret that signs its webhooks. The secret is printed
    on stderr.

    \b
      key=$(blipline keys create acme)
      curl -H "Authorization: Bearer $key" http://127.0.0.1:8000/v1/queues
    """
    with _api_keys(redis_url) as api_keys:
        key = api_keys.create(name, private_images=not no_private_images)
        secret = api_keys.webhook_secrets(name)[0]
    if as_json:
        print_json({"name": name, "id": key_id_of(key), "key": key, "webhook_secret": secret})
    else:
        print_line(key)
        warn(f"webhooks of {name} are signed with {secret}")
    return Exit.OK


@keys.command(name="list")
@options.as_json('Print a JSON line for each key: {"id", "name", "created_at", "private_images"}.')
@options.redis_url
def list_(as_json: bool, redis_url: str | None) -> Exit:
    """Print a line for each key, the oldest first.

    The tab-separated fields: id, name, time of creation (UTC), and `no-private-images` for a key
    that was created with it.

    \b
      blipline keys list
      blipline keys list --json | jq -r 'select(.name == "acme").id'
    """
    with _api_keys(redis_url) as api_keys:
        records = api_keys.list()
    for key in records:
        if as_json:
            fields = ("id", "name", "created_at", "private_images")
            print_json({field: getattr(key, field) for field in fields})
        else:
            created = datetime.fromtimestamp(key.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            restriction = "" if key.private_images else "\tno-private-images"
            print_line(f"{key.id}\t{key.name}\t{created}{restriction}")
    if not records:
        warn("no keys: `blipline keys create NAME` creates one")
    return Exit.OK


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
