"""The fault programme in short form: failovers of a replicated Redis, under load."""

from __future__ import annotations

import pytest

from tests.faults.faults import TO_REPLICAS, consumer_killed, engine_killed, producer_killed
from tests.faults.short_phase import BOTH_ENGINES, check_recovery


@pytest.mark.timeout(900)
@BOTH_ENGINES
def test_across_failovers_each_item_gets_one_correct_result_and_nothing_is_left(
    echoes: bool,
) -> None:
    # A failover hits every client of Redis: both consumers of one worker, and the producers.
    kinds = (*TO_REPLICAS, engine_killed, consumer_killed, producer_killed)
    check_recovery(kinds, replicated=True, workers=1, echoes=echoes)
