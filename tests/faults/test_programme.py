"""The fault programme in short form: every kind of fault once, under load."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.faults.faults import (
    ANYWHERE,
    TO_ONE_REDIS,
    TO_REPLICAS,
    Fault,
    consumer_killed,
    engine_killed,
    producer_killed,
)
from tests.faults.programme import ITEMS_BETWEEN, run_phase

SEED = 20
SCENES = 32
#: Seconds between batches: while parts recover, the load would keep a core busy.
BATCH_PAUSE_S = 8.0


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kinds", "replicated", "workers"),
    [
        ((*ANYWHERE, *TO_ONE_REDIS), False, 2),
        # A failover hits every client of Redis: both consumers of one worker, and the producers.
        ((*TO_REPLICAS, engine_killed, consumer_killed, producer_killed), True, 1),
    ],
    ids=["one-redis", "replicas"],
)
def test_under_every_fault_each_item_gets_one_correct_result_and_nothing_is_left(
    kinds: Sequence[Fault], replicated: bool, workers: int
) -> None:
    report = run_phase(
        kinds,
        SEED,
        len(kinds),
        print,
        replicated=replicated,
        workers=workers,
        scenes=SCENES,
        batch_pause_s=BATCH_PAUSE_S,
    )
    print("\n".join(report.lines()))
    assert report.violations == []
    assert report.faults == {kind.__name__: 1 for kind in kinds}
    assert report.items >= ITEMS_BETWEEN * len(kinds)
