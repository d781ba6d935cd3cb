"""The fault programme in short form: every kind of fault of one Redis once, under load."""

from __future__ import annotations

import pytest

from tests.faults.faults import ANYWHERE, TO_ONE_REDIS
from tests.faults.short_phase import BOTH_ENGINES, check_recovery


@pytest.mark.timeout(900)
@BOTH_ENGINES
def test_under_every_fault_each_item_gets_one_correct_result_and_nothing_is_left(
    echoes: bool,
) -> None:
    check_recovery((*ANYWHERE, *TO_ONE_REDIS), replicated=False, workers=2, echoes=echoes)
