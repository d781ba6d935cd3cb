"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from ..contract import Options, Task
from ..ledger.backpressure import WhenFull
from ..validation import check_options
from .option_checks import check_combination

Command = Callable[..., Any]

#: Default timeout of an answer in seconds; a large model may still be loading.
ANSWER_TIMEOUT_S: Final = 120.0


class FiniteRange(click.FloatRange):
    """A range of numbers; NaN, which compares with none, and infinity are not in it."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; raises BadParameter."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


redis_url = click.option(
    "--redis-url",
    metavar="URL",
    help="URL of the Redis server.  [env: BLIPLINE_REDIS_URL; default: redis://127.0.0.1:6379/0]",
)


def as_json(help_text: str) -> Callable[[Command], Command]:
    """Add `--json`, with a help text that describes its output."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def timeout(default_s: float | None, help_text: str) -> Callable[[Command], Command]:
    """Add `--timeout` in seconds; None means without a limit."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=FiniteRange(min=0),
        metavar="SECONDS",
        default=default_s,
        show_default=default_s is not None,
        help=help_text,
    )


def when_full(default: WhenFull) -> Callable[[Command], Command]:
    """Add `--when-full`; batches wait by default, single jobs fail."""
    return click.option(
        "--when-full",
        type=click.Choice(get_args(WhenFull)),
        default=default,
        show_default=True,
        help="If the queue is full, wait for capacity, or raise an error (exit code 5).",
    )


adapter = click.option(
    "--adapter", metavar="NAME", help="The worker's adapter that answers; by default none."
)

stream = click.option(
    "--stream",
    is_flag=True,
    help="Show the text while it grows, on a terminal; elsewhere, and with --json, it has no "
    "effect.",
)

batch_id = click.argument("batch_id", metavar="ID")

deadline = click.option(
    "--deadline-s",
    type=FiniteRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Seconds from now after which items without a result fail.",
)


def generation(command: Command) -> Command:
    """Add an option for each option of the contract, with its range, and `--deadline-s`."""
    return decoding(deadline(command))


def decoding(command: Command) -> Command:
    """Add an option for each option of the contract, with its range, but no deadline."""
    return decoding_without()(command)


def decoding_without(*excluded: str) -> Callable[[Command], Command]:
    """Add the options of `decoding` except those that the command cannot have."""

    def add(command: Command) -> Command:
        for name, field in reversed(Options.model_fields.items()):
            if name not in ("deadline", "stream", *excluded):
                command = _generation_option(name, field)(command)
        return command

    return add


def check_generation(
    arguments: Mapping[str, Any], task: Task, *, ranks: bool = False
) -> dict[str, Any]:
    """Return the generation options among the arguments of a command, without defaults.

    Raises InvalidInput if one is invalid, or if each item would fail with them.
    """
    chosen = {name: value for name, value in arguments.items() if name in Options.model_fields}
    checked = check_options(chosen, None)
    check_combination(checked, task, ranks=ranks)
    return checked


def show_defaults(command: click.Command, **defaults: str) -> None:
    """Let `--help` show these defaults of a command in place of the contract's."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name in defaults:
            parameter.show_default = defaults[parameter.name]


def _generation_option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    flag = f"--{name.replace('_', '-')}"
    if get_origin(field.annotation) is list:
        return _repeated(name, flag, field)
    if bool in (field.annotation, *get_args(field.annotation)):
        return _flags(name, flag, field)
    return click.option(
        flag,
        type=_range(field),
        default=field.default,
        show_default=True,
        help=field.description,
    )


def _repeated(name: str, flag: str, field: FieldInfo) -> Callable[[Command], Command]:
    """Return an option that may be repeated, for a field that is a list."""
    kind = get_args(field.annotation)[0]
    is_number = int in (kind, *get_args(kind))
    return click.option(
        flag,
        name,
        multiple=True,
        type=click.INT if is_number else click.STRING,
        metavar="TOKEN" if is_number else "TEXT",
        help=f"{field.description}  Repeatable.",
    )


def _flags(name: str, flag: str, field: FieldInfo) -> Callable[[Command], Command]:
    """Return a flag, and one for each literal that the field allows beside true and false."""
    literals = [value for kind in get_args(field.annotation) for value in get_args(kind)]

    def add(command: Command) -> Command:
        for value in literals:
            command = click.option(
                f"{flag}-{value}",
                name,
                flag_value=value,
                type=click.UNPROCESSED,
                help=f"{name} = {value}",
            )(command)
        if field.default is None:
            return click.option(
                f"{flag}/--no-{flag[2:]}", name, default=None, help=field.description
            )(command)
        return click.option(
            flag,
            name,
            flag_value=True,
            default=field.default,
            type=click.UNPROCESSED,
            help=field.description,
        )(command)

    return add


def _range(field: FieldInfo) -> click.ParamType[Any]:
    """Return the range that pydantic enforces, so that `--help` shows it."""
    low, low_open = _bound(field, "ge", "gt")
    high, high_open = _bound(field, "le", "lt")
    is_integer = int in (field.annotation, *get_args(field.annotation))
    kind = click.IntRange if is_integer else FiniteRange
    return kind(min=low, max=high, min_open=low_open, max_open=high_open)


def _bound(field: FieldInfo, closed: str, opened: str) -> tuple[Any, bool]:
    for constraint in field.metadata:
        for name in (closed, opened):
            value = getattr(constraint, name, None)
            if value is not None:
                return value, name == opened
    return None, False
