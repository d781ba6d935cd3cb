"""`blipline keys`: API keys and webhook secrets of the gateway."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from ..connection.connect import connect, redis_errors
from ..contract import Task
from ..errors import InvalidInput
from ..gateway.api_keys import ApiKeys, key_id_of, missing_secret, printable_key_id
from ..gateway.key_policy import SCOPES, KeyPolicy
from ..ledger.keys import Keys
from ..settings import ClientSettings
from . import options
from .exit_codes import Exit, warn
from .key_limits import DURATION, key_fields, limit_texts, utc_text
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
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="Allow only submissions (submit), reading (read), or cancellations and deletions "
    "(manage); repeatable.",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    type=click.Choice([task.short for task in Task]),
    help="Allow only jobs of this task; repeatable.",
)
@click.option("--expires", type=DURATION, metavar="TIME", help="Expire after 30d, 12h or 90m.")
@click.option(
    "--rate", type=click.IntRange(1), metavar="N", help="Maximum requests per minute of this key."
)
@options.as_json('Print {"name", "id", "key", "webhook_secret"} instead of only the key.')
@options.redis_url
def create(
    name: str,
    no_private_images: bool,
    scopes: Sequence[str],
    tasks: Sequence[str],
    expires: float | None,
    rate: int | None,
    as_json: bool,
    redis_url: str | None,
) -> Exit:
    """Create a key and print it; it cannot be displayed again.

    The first key of a name also creates the secret that signs its webhooks. The secret is printed
    on stderr.

    \b
      key=$(blipline keys create acme)
      blipline keys create acme --scope submit --scope read --task caption --expires 30d
      curl -H "Authorization: Bearer $key" http://127.0.0.1:8000/v1/queues
    """
    with _api_keys(redis_url) as api_keys:
        policy = KeyPolicy(
            not no_private_images,
            scopes or SCOPES,
            tasks or None,
            None if expires is None else time.time() + expires,
            rate,
        )
        key = api_keys.create(name, policy)
        secret = api_keys.webhook_secrets(name)[0]
    if as_json:
        print_json({"name": name, "id": key_id_of(key), "key": key, "webhook_secret": secret})
    else:
        print_line(key)
        warn(f"webhooks of {name} are signed with {secret}")
    return Exit.OK


@keys.command(name="list")
@options.as_json(
    'Print a JSON line for each key: {"id", "name", "created_at", "private_images"}, and "scopes", '
    '"tasks", "expires_at" and "rate" of a key that has them.'
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
    with _api_keys(redis_url) as api_keys:
        key = api_keys.get(key_id_of(key_id) or key_id)
    if key is None:
        raise InvalidInput(f"{printable_key_id(key_id)}: no such key")
    if as_json:
        print_json(key_fields(key))
        return Exit.OK
    for label, text in (("id", key.id), ("name", key.name), ("created", utc_text(key.created_at))):
        print_line(f"{label}\t{text}")
    for limit in limit_texts(key.policy) or ["no limits of its own"]:
        print_line(f"limit\t{limit}")
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
