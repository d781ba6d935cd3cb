"""All files that are tried, the same in each run."""

from __future__ import annotations

from functools import cache

from tests.hostile.bombs import bombs
from tests.hostile.damage import damaged
from tests.hostile.oddities import oddities
from tests.hostile.specimen import Specimen
from tests.hostile.strangers import polyglots, strangers


@cache
def corpus() -> tuple[Specimen, ...]:
    """Damaged, bombs, no images at all, polyglots, and what is odd but legal."""
    return (*damaged(), *bombs(), *strangers(), *polyglots(), *oddities())
