"""Parallel lanes of the test run (`pytest --lanes 6`); tests/conftest.py registers this.

A lane is a process of tests/lane_processes.py. It has its own Redis (a session fixture), ports that
no other lane gets (`demo.stack.free_port`) and its own directory for temporary files and for the
run directories of workers.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lane_processes import Lanes

#: Slow folders and modules, the slowest first: a slow module that starts last would keep one lane
#: busy while the others are idle.
SLOW: Final = (
    *("browser", "page", "test_programme.py", "test_failovers.py", "test_shared_redis.py"),
    *("test_openapi.py", "test_dead_processes.py", "test_killed_processes.py"),
    *("system", "test_t5.py", "examples", "faults", "demo", "images", "models", "gateway"),
)

#: Modules that run in one lane, since they share a slow import or a running system that starts in
#: ten seconds.
TOGETHER: Final = (
    "system/test_bad_input.py system/test_cli.py system/test_scenes.py system/test_tasks.py"
    " system/test_search.py system/test_describe.py system/test_capfilt.py system/test_flower.py"
    " system/test_uploads.py system/test_recipes.py system/test_openapi_examples.py"
    " system/test_openai_api.py system/test_client_libraries.py system/test_named_adapters.py"
    " system/test_metrics.py system/test_tracing.py",
    # These need peft, which takes two seconds to import.
    "models/test_adapter.py models/test_lora.py models/test_lora_loading.py",
    # These compare the same checkpoints with transformers, which take a second to load.
    "models/test_answers.py models/test_diverse_beams.py models/test_row_options.py"
    " models/test_text_streams.py",
    "system/test_redis_states.py system/test_malformed_messages.py",
    # These make the same corpus.
    "images/test_hostile_images.py system/test_hostile_images.py",
    "examples/test_backends.py examples/test_programs.py",
    "openai_api/test_batches.py openai_api/test_chat.py openai_api/test_embeddings.py"
    " openai_api/test_errors.py openai_api/test_guide.py",
    "hf_api/test_errors.py hf_api/test_guide.py hf_api/test_tasks.py",
    "page/browser/test_ask.py page/browser/test_batch.py page/browser/test_chat.py"
    " page/browser/test_clipboard.py page/browser/test_describe.py page/browser/test_docs_page.py"
    " page/browser/test_errors.py page/browser/test_layout.py page/browser/test_login.py"
    " page/browser/test_pending.py page/browser/test_reload.py page/browser/test_stale_answers.py"
    " page/test_access.py page/test_limits.py page/test_pending.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--exhaustive` and `--lanes`."""
    parser.addoption("--exhaustive", action="store_true", help="run tests marked exhaustive, too")
    parser.addoption("--lanes", type=int, default=1, help="processes that share the tests")


def pytest_configure(config: pytest.Config) -> None:
    """Let lanes share the cores, before torch is imported: its waiting threads must not spin."""
    if config.getoption("lanes") > 1:
        os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect exhaustive tests unless asked; put slow modules first where lanes share the work."""
    if not config.getoption("exhaustive"):
        skipped = {item for item in items if item.get_closest_marker("exhaustive")}
        config.hook.pytest_deselected(items=list(skipped))
        items[:] = [item for item in items if item not in skipped]
    if config.getoption("lanes") > 1:
        items.sort(key=lambda item: _rank(item.path))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in lanes if there are several, else leave them to pytest."""
    count = session.config.getoption("lanes")
    if count == 1 or session.testsfailed or session.config.getoption("collectonly"):
        return None
    groups: dict[str, list[int]] = {}
    for position, item in enumerate(session.items):
        groups.setdefault(_group(item.nodeid), []).append(position)
    Lanes(session, groups.values()).run(count)
    return True


def _group(nodeid: str) -> str:
    module = nodeid.partition("::")[0]
    name = module.removeprefix("tests/")
    return next((names for names in TOGETHER if name in names.split()), module)


def _rank(path: Path) -> int:
    names = [name for name in SLOW if name in (path.name, path.parent.name)]
    return SLOW.index(names[0]) if names else len(SLOW)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from the objects that the imports of tests create."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def own_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give this run a TMPDIR of its own: default run directories must not collide.

    Its path is short: the path of a Unix socket has at most about a hundred bytes. `tmp_path` stays
    where pytest keeps it after the run.
    """
    tmp_path_factory.getbasetemp()
    with (
        tempfile.TemporaryDirectory(prefix="bl-") as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", directory)
        patch.setattr(tempfile, "tempdir", None)
        yield
