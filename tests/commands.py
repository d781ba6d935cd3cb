"""Commands of the command line, with their modules imported."""

from __future__ import annotations

import click

from producer.cli.lazy_group import LazyCommand


def members(group: click.Group) -> dict[str, click.Command]:
    """Return the commands of a group by name."""
    return {
        name: command.load() if isinstance(command, LazyCommand) else command
        for name, command in group.commands.items()
    }
