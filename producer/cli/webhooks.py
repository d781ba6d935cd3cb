"""`blipline webhooks`: deliveries of the gateway's webhooks, and tests of their URLs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

import click

from ..client import Client
from ..client.webhook_log import LIST_DELIVERIES
from ..connection.connect import connect, redis_errors
from ..errors import InvalidInput
from ..gateway.access.api_keys import ApiKeys, missing_secret
from ..ledger.delivery_log import MAX_LOGGED, DeliveryLog, DeliveryStatus, WebhookDelivery
from ..ledger.keys import Keys
from . import options
from .exit_codes import Exit, warn
from .gateway import check_extra
from .key_limits import utc_text
from .output import print_json, print_line

_JSON_HELP = (
    'Print a JSON line for each delivery: {"id", "event", "subject", "message_id", "url", "at", '
    '"duration_ms", "status", "status_code", "error", "attempt", "next_attempt_at", "resent"}.'
)


@click.group()
def webhooks() -> None:
    """List deliveries of webhooks, send a webhook again, and test a URL.

    A delivery is one attempt. NAME is the name of API keys (`blipline keys list`).

    \b
      blipline webhooks list acme
      blipline webhooks list acme --batch photos
      blipline webhooks resend acme 1795000004211-0
      blipline webhooks ping acme https://hooks.example.com/blipline
    """


@webhooks.command(name="list")
@click.argument("name")
@click.option("--job", metavar="ID", help="Only deliveries of this job.")
@click.option("--batch", metavar="ID", help="The last 32 deliveries of this batch.")
@click.option("--status", type=click.Choice(get_args(DeliveryStatus)), help="Only this outcome.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LOGGED),
    default=LIST_DELIVERIES,
    show_default=True,
    metavar="N",
    help="Maximum number of deliveries.",
)
@options.as_json(_JSON_HELP)
@options.redis_url
def list_(
    name: str,
    job: str | None,
    batch: str | None,
    status: DeliveryStatus | None,
    limit: int,
    as_json: bool,
    redis_url: str | None,
) -> Exit:
    """Print a line for each of the latest deliveries of a name, the newest first.

    The tab-separated fields: id, time (UTC), event, id of the job or batch, outcome, host, and the
    cause of a failure with the time of the next attempt. The last 1,000 are stored, for a week.

    \b
      blipline webhooks list acme
      blipline webhooks list acme --status failed --json | jq -r .id
    """
    if job is not None and batch is not None:
        raise click.UsageError("give either --job or --batch")
    with Client(redis_url) as client:
        if batch is not None:
            stored = client.webhooks.of_batch(_inner_id(name, "batch", batch))
            deliveries = [item for item in stored if status in (None, item.status)][:limit]
        else:
            subject = None if job is None else _inner_id(name, "job", job)
            deliveries = list(
                client.webhooks.list(name, limit=limit, status=status, subject=subject)
            )
    for delivery in deliveries:
        _print(delivery, as_json)
    if not deliveries:
        warn(f"no deliveries are stored for {name!r:.50}")
    return Exit.OK


@webhooks.command()
@click.argument("name")
@click.argument("delivery_id", metavar="ID")
@click.option("--batch", metavar="ID", help="Take the delivery from the list of this batch.")
@options.as_json('Print {"id", "event", "subject", …} of the delivery.')
@options.redis_url
def resend(
    name: str, delivery_id: str, batch: str | None, as_json: bool, redis_url: str | None
) -> Exit:
    """Send the webhook of a delivery again; `blipline webhooks list` prints the ids.

    A gateway sends it at once, with the job or batch as it is now. A webhook that waits for its
    next attempt gets it now; any other gets all attempts.

    \b
      blipline webhooks resend acme 1795000004211-0
    """
    batch_id = None if batch is None else _inner_id(name, "batch", batch)
    with Client(redis_url) as client:
        delivery = client.webhooks.resend(name, delivery_id, batch_id)
    if as_json:
        print_json(asdict(delivery))
    else:
        print_line(f"{delivery.message_id} is due now")
    return Exit.OK


@webhooks.command()
@click.argument("name")
@click.argument("url", metavar="URL")
@options.as_json(_JSON_HELP.replace("a JSON line for each delivery", "the delivery as JSON"))
@options.redis_url
def ping(name: str, url: str, as_json: bool, redis_url: str | None) -> Exit:
    """Send one signed test webhook to a URL, from this machine, and print the delivery.

    The exit code is 1 if the receiver did not respond with 2xx within 10 seconds. A gateway on
    another machine may reach other hosts: `POST /v1/webhooks/ping` tests it. Internal addresses
    are blocked unless BLIPLINE_WEBHOOK_ALLOW names them.

    \b
      blipline webhooks ping acme https://hooks.example.com/blipline
    """
    check_extra()
    from ..gateway.schemas.request_fields import check_webhook_url
    from ..gateway.settings import GatewaySettings
    from ..webhooks.pinger import WebhookPinger
    from ..webhooks.receiver import WebhookClient

    try:
        check_webhook_url(url)
    except ValueError as error:
        raise InvalidInput(f"URL: {error}") from None
    settings = GatewaySettings.load(redis_url=redis_url)
    keys = Keys(settings.key_prefix)
    with connect(settings.redis_url) as connection, redis_errors(settings.redis_url):
        api_keys = ApiKeys(connection, keys)
        if not api_keys.webhook_secrets(name):
            raise missing_secret(name)
        client = WebhookClient(settings.webhook_address_policy(), connections=1)
        log = DeliveryLog(connection, keys)
        delivery = WebhookPinger(client, api_keys.webhook_secrets, log).ping(name, url)
        client.close()
    _print(delivery, as_json)
    return Exit.OK if delivery.status == "delivered" else Exit.SOME_FAILED


def _inner_id(name: str, kind: str, public_id: str) -> str:
    """Return the id of a job or batch that gateways use (see gateway/tenants.py)."""
    return f"{name}.{kind}.{public_id}"


def _print(delivery: WebhookDelivery, as_json: bool) -> None:
    if as_json:
        print_json(asdict(delivery))
        return
    fields: list[Any] = [
        delivery.id,
        utc_text(delivery.at),
        delivery.event,
        delivery.subject.split(".", 2)[-1],
        delivery.status,
        delivery.url,
    ]
    if delivery.error:
        next_at = delivery.next_attempt_at
        follows = "" if next_at is None else f"; next attempt {utc_text(next_at)}"
        fields.append(delivery.error + follows)
    print_line("\t".join(fields))
