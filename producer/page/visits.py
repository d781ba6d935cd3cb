"""The inputs and answers of open pages, so that a reload shows them again.

A visit is one browser tab. `visit.js` names it in the page's URL, which Gradio sends with each
event.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import gradio as gr

from ..gateway.http.lru import FairLRUCache
from .batches import MAX_IMAGES

#: Maximum visits; above it, the tenant with the most visits loses its least recently used one.
MAX_VISITS: Final = 1000
#: Maximum characters of a stored text; a longer one is not restored.
MAX_TEXT: Final = 20_000

#: The fields of an uploaded file, and their maximum characters together.
_FILE_FIELDS: Final = ("path", "orig_name", "size", "mime_type", "meta")
MAX_FILE_CHARS: Final = 2000

_VISIT: Final = re.compile(r"[0-9a-f]{32}")


class Visits:
    """The last values of components in each visit of a tenant."""

    def __init__(self) -> None:
        #: The components that have stored values.
        self.components: list[Any] = []
        self._visits: FairLRUCache[tuple[str, str], dict[Any, Any]] = FairLRUCache(MAX_VISITS)

    def record(
        self,
        handler: Callable[..., AsyncIterator[Any]],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        *,
        is_resumable: bool = False,
    ) -> Callable[..., AsyncIterator[Any]]:
        """Wrap a handler to store its inputs when it starts, and its outputs when it has ended.

        A handler whose page was closed has not ended: its waiting indicator is not stored. The
        outputs of a resumable handler are stored immediately.
        """
        self._add_components(inputs, outputs)

        async def recorded(request: gr.Request, *values: Any) -> AsyncIterator[Any]:
            self._save(request, zip(inputs, values, strict=True))
            last: dict[Any, Any] = {}
            try:
                async for results in handler(request, *values):
                    last.update(_changes(outputs, results))
                    if is_resumable:
                        self._save(request, last.items())
                    yield results
            except gr.Error:
                self._save(request, last.items())
                raise
            self._save(request, last.items())

        return recorded

    def record_call(
        self,
        handler: Callable[..., Awaitable[Any]],
        inputs: Sequence[Any],
        outputs: Sequence[Any] = (),
    ) -> Callable[..., Awaitable[Any]]:
        """Wrap a handler that returns once to store its inputs and outputs."""
        self._add_components(inputs, outputs)

        async def recorded(request: gr.Request, *values: Any) -> Any:
            self._save(request, zip(inputs, values, strict=True))
            results = await handler(request, *values)
            self._save(request, _changes(outputs, results))
            return results

        return recorded

    async def restore(self, request: gr.Request) -> tuple[Any, ...]:
        """Return the stored value of each of `components`, and no change for all others."""
        key = _key(request)
        visit = (self._visits.get(key) if key else None) or {}
        values = [_existing(visit.get(component)) for component in self.components]
        return tuple(gr.skip() if value is None else value for value in values)

    def _add_components(self, *groups: Sequence[Any]) -> None:
        self.components = list(dict.fromkeys([*self.components, *(c for g in groups for c in g)]))

    def _save(self, request: gr.Request, values: Iterable[tuple[Any, Any]]) -> None:
        key = _key(request)
        if key is not None:
            visit = self._visits.get(key) or {}
            visit.update((component, _bounded(value)) for component, value in values)
            self._visits.put(key[0], key, visit)


def _key(request: gr.Request) -> tuple[str, str] | None:
    visit = request.query_params.get("visit", "")
    return (request.username or "", visit) if _VISIT.fullmatch(visit) else None


def _changes(outputs: Sequence[Any], results: Any) -> list[tuple[Any, Any]]:
    """Return the outputs with new values: an update, as `gr.skip()`, changes properties only."""
    values = results if isinstance(results, tuple) else (results,)
    return [
        (component, value)
        for component, value in zip(outputs, values, strict=False)
        if not (isinstance(value, dict) and "__type__" in value)
    ]


def _bounded(value: Any) -> Any:
    """Return a value of bounded size; None for a long text or list."""
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else None
    if isinstance(value, list):
        return [_bounded(item) for item in value] if len(value) <= MAX_IMAGES else None
    if isinstance(value, dict):
        fields = {name: value[name] for name in _FILE_FIELDS if name in value}
        return fields if len(str(fields)) <= MAX_FILE_CHARS else None
    return value


def _existing(value: Any) -> Any:
    """Return a value with links to its files, and without files that Gradio has deleted since."""
    if isinstance(value, list):
        return [item for item in map(_existing, value) if item is not None] or None
    if not isinstance(value, dict):
        return value
    path = value["path"]
    # Gradio puts the page's address in front.
    return {**value, "url": f"/gradio_api/file={path}"} if Path(path).is_file() else None
