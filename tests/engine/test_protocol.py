"""The directory and the path of the engine's socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.engine.protocol import private_dir, socket_path


def test_the_directory_of_the_socket_belongs_to_one_user_alone(tmp_path: Path) -> None:
    private = private_dir(tmp_path / "run")
    assert private.stat().st_mode & 0o777 == 0o700
    private.chmod(0o755)
    with pytest.raises(PermissionError, match="BLIPLINE_RUN_DIR"):
        private_dir(private)


def test_a_socket_path_that_is_too_long_is_rejected_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="BLIPLINE_RUN_DIR"):
        socket_path(tmp_path / ("x" * 120))
