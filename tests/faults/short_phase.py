"""A phase of the fault programme that is short enough for each run of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest

from tests.faults.faults import Fault
from tests.faults.programme import ITEMS_BETWEEN, run_phase

SEED: Final = 20
SCENES: Final = 32
#: Seconds between batches of a thread: while parts recover, the load would keep a core busy.
ECHO_PAUSE_S, MODEL_PAUSE_S = 2.0, 8.0

#: Of a test: an engine that echoes shows the recovery of all other parts in half the time.
BOTH_ENGINES: Final = pytest.mark.parametrize(
    "echoes", [True, pytest.param(False, marks=pytest.mark.exhaustive)], ids=["echo", "model"]
)


def check_recovery(kinds: Sequence[Fault], *, replicated: bool, workers: int, echoes: bool) -> None:
    """Check that under each fault once every item gets its result, and that nothing is left."""
    report = run_phase(
        kinds,
        SEED,
        len(kinds),
        print,
        replicated=replicated,
        workers=workers,
        scenes=SCENES,
        batch_pause_s=ECHO_PAUSE_S if echoes else MODEL_PAUSE_S,
        echoes=echoes,
    )
    print("\n".join(report.lines()))
    assert report.violations == []
    assert report.faults == {kind.__name__: 1 for kind in kinds}
    assert report.items >= ITEMS_BETWEEN * len(kinds)
