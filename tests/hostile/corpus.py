"""The corpus of hostile files, the same in each run."""

from __future__ import annotations

from functools import cache

from tests.hostile.bombs import bombs
from tests.hostile.codestreams import codestreams
from tests.hostile.containers import containers
from tests.hostile.damage import damaged
from tests.hostile.incomplete import incomplete
from tests.hostile.items import repetitions
from tests.hostile.oddities import oddities
from tests.hostile.specimen import Specimen
from tests.hostile.strangers import polyglots, strangers


@cache
def lacking() -> tuple[Specimen, ...]:
    """Return the files of which pixels may be missing."""
    return (*damaged(), *incomplete(), *containers(), *codestreams())


@cache
def corpus() -> tuple[Specimen, ...]:
    """Return damaged, incomplete and rare files, bombs, files of other formats, and polyglots."""
    return (
        *lacking(),
        *bombs(),
        *repetitions(),
        *strangers(),
        *polyglots(),
        *oddities(),
    )
