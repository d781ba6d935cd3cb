"""A group of commands whose modules are imported when a command is used."""

from __future__ import annotations

from importlib import import_module

import click


class LazyCommand(click.Command):
    """A name and a line of help, which stand for a command that is not imported."""

    def __init__(self, name: str, module: str, summary: str) -> None:
        """`module` has the command as `name`; `summary` is the first line of its help."""
        super().__init__(name, help=summary)
        self._module = module

    def load(self) -> click.Command:
        """Import the command itself."""
        command: click.Command = getattr(import_module(self._module, __package__), self.name or "")
        return command


class LazyGroup(click.Group):
    """A group that imports a command when it runs, or when its own help is printed."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the arguments, and import it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest
