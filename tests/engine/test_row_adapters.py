"""The adapters of the rows of a forward pass."""

from __future__ import annotations

import threading

import pytest

from worker.engine.protocol import AdapterInfo
from worker.engine.row_adapters import RowAdapters


def test_a_selection_numbers_the_rows_and_ends_with_its_block() -> None:
    adapters = RowAdapters([AdapterInfo("red", "1", False), AdapterInfo("blue", "2", True)])
    assert adapters.of_features == {"blue"}
    with adapters.select(["", "blue", "red"]):
        assert adapters.indices is not None
        assert adapters.indices.tolist() == [0, 2, 1]
        with adapters.select(["", ""]):
            assert not adapters.active
        assert adapters.active
    with pytest.raises(RuntimeError, match="step"), adapters.select(["red"]):
        raise RuntimeError("step")
    assert not adapters.active


def test_a_selection_of_a_suspended_thread_does_not_change_the_rows_of_others() -> None:
    adapters = RowAdapters([AdapterInfo("red", "1", False)])
    selected, ended = threading.Event(), threading.Event()

    def search() -> None:
        with adapters.select(["red"]):
            selected.set()
            ended.wait(10)

    thread = threading.Thread(target=search)
    thread.start()
    assert selected.wait(10)
    assert not adapters.active
    ended.set()
    thread.join()
