"""Help in which the options that matter first come first, and generation options last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from ..contract import Options

_FIRST: Final = "Options"
_MORE: Final = "More options"
_GENERATION: Final = "Generation options, as in docs/tasks.md"


class GroupedCommand(click.Command):
    """A command whose help lists its options under headlines."""

    def __init__(self, *arguments: Any, first: Sequence[str] = (), **settings: Any) -> None:
        """`first` are the names of the first options; empty: all but the generation options."""
        super().__init__(*arguments, **settings)
        self._first = first

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headlines."""
        groups: dict[str, list[tuple[str, str]]] = {_FIRST: [], _MORE: [], _GENERATION: []}
        for parameter in sorted(self.get_params(ctx), key=self._order):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups[self._headline(parameter)].append(record)
        for headline, records in groups.items():
            if records:
                with formatter.section(headline):
                    formatter.write_dl(records)

    def _headline(self, parameter: click.Parameter) -> str:
        if parameter.name in self._first:
            return _FIRST
        if parameter.name in Options.model_fields:
            return _GENERATION
        return _MORE if self._first else _FIRST

    def _order(self, parameter: click.Parameter) -> int:
        is_first = parameter.name in self._first
        return self._first.index(parameter.name or "") if is_first else len(self._first)
