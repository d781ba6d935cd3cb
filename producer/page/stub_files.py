"""Gradio without its stub files, which only editors read.

Gradio parses its own source code at every import and writes a `.pyi` file of each component next to
it: half the time of the import, and processes that start at once write the same files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Final

MODULE: Final = "gradio.component_meta"


class _Loader(SourceFileLoader):
    """A loader of the module of stub files, which then writes none."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.create_or_modify_pyi = lambda *_: None  # type: ignore[attr-defined]


class _Finder(MetaPathFinder):
    """A finder of that module alone."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == MODULE else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def disable() -> None:
    """Keep Gradio from writing stub files; call it before Gradio is imported."""
    sys.meta_path.insert(0, _Finder())
