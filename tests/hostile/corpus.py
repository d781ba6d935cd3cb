"""The corpus of hostile files, the same in each run."""

from __future__ import annotations

from functools import cache

from tests.hostile.bombs import bombs
from tests.hostile.codestreams import codestreams
from tests.hostile.containers import containers
from tests.hostile.damage import damaged
from tests.hostile.oddities import oddities
from tests.hostile.specimen import Specimen
from tests.hostile.strangers import polyglots, strangers


@cache
def corpus() -> tuple[Specimen, ...]:
    """Return damaged files, bombs, files of other formats, polyglots, and rare but legal files."""
    return (
        *damaged(),
        *bombs(),
        *containers(),
        *codestreams(),
        *strangers(),
        *polyglots(),
        *oddities(),
    )
