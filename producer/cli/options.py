"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, get_args

import click
from pydantic.fields import FieldInfo

from ..contract import Options
from ..ledger.publisher import WhenFull

Command = Callable[..., Any]

#: Seconds that a person at a terminal waits for one answer: a large model may still be loading.
ANSWER_TIMEOUT_S: Final = 120.0

redis_url = click.option(
    "--redis-url",
    metavar="URL",
    help="The Redis of the workers.  [env: BLIPLINE_REDIS_URL; default: redis://127.0.0.1:6379/0]",
)


def as_json(help_text: str) -> Callable[[Command], Command]:
    """`--json`, with what it prints here."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def timeout(default_s: float | None, help_text: str) -> Callable[[Command], Command]:
    """`--timeout` in seconds; None waits for as long as it takes."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        default=default_s,
        show_default=default_s is not None,
        help=help_text,
    )


def when_full(default: WhenFull) -> Callable[[Command], Command]:
    """`--when-full`: single jobs end with an exit code of their own, batches wait."""
    return click.option(
        "--when-full",
        type=click.Choice(get_args(WhenFull)),
        default=default,
        show_default=True,
        help="While the queue has no room: wait for it, or end with exit code 5.",
    )


batch_id = click.argument("batch_id", metavar="ID")

deadline = click.option(
    "--deadline-s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Seconds from now after which nobody wants the answer: workers then skip it.",
)


def generation(command: Command) -> Command:
    """Every option of the contract, with its bounds; the deadline is given as seconds from now."""
    command = deadline(command)
    for name, field in reversed(Options.model_fields.items()):
        if name != "deadline":
            command = _generation_option(name, field)(command)
    return command


def _generation_option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    flag = f"--{name.replace('_', '-')}"
    if field.annotation is bool:
        return click.option(flag, is_flag=True, default=field.default, help=field.description)
    return click.option(
        flag,
        type=_range(field),
        default=field.default,
        show_default=True,
        help=field.description,
    )


def _range(field: FieldInfo) -> click.ParamType[Any]:
    """The bounds that pydantic enforces, so that `--help` shows them."""
    low, low_open = _bound(field, "ge", "gt")
    high, high_open = _bound(field, "le", "lt")
    whole = int in (field.annotation, *get_args(field.annotation))
    kind = click.IntRange if whole else click.FloatRange
    return kind(min=low, max=high, min_open=low_open, max_open=high_open)


def _bound(field: FieldInfo, closed: str, opened: str) -> tuple[Any, bool]:
    for constraint in field.metadata:
        for name in (closed, opened):
            value = getattr(constraint, name, None)
            if value is not None:
                return value, name == opened
    return None, False
