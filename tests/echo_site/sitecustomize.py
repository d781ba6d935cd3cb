"""Python imports this module at the start of each process that has this folder on PYTHONPATH."""

from __future__ import annotations

import sys

if sys.orig_argv[1:3] == ["-m", "worker.engine"]:
    from tests.echo_worker import replace_model

    replace_model()
