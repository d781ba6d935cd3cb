"""Public names are imported when they are first used."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import producer
from tests.producer.test_package import EXTRA

ROOT = Path(__file__).resolve().parents[2]

THREADS = """
import threading, producer
barrier, seen = threading.Barrier(8), []

def use():
    barrier.wait()
    seen.append((producer.AsyncClient, producer.Client, producer.JobFailed))

threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(seen) == 8 and len(set(seen)) == 1, seen
"""

CHECK = """
import sys

def check(line, absent):
    loaded = absent & set(sys.modules)
    assert not loaded, f"{line}: {loaded}"
"""
#: Imports in their order in one process, and the modules that are still absent after each.
CLIENT_IMPORTS: list[tuple[str, set[str]]] = [
    ("import producer", {"redis", "pydantic", "asyncio", "producer.contract"}),
    ("from producer import JobFailed", {"redis", "pydantic", "asyncio"}),
    (
        "import producer.cli.app",
        {"redis", "pydantic", "asyncio", "rich", "producer.client", *EXTRA},
    ),
    ("from producer import Client", {"producer.aio", "producer.search"}),
    (
        "import producer.cli.status",
        {"rich", "producer.aio", "producer.annotate", "producer.gateway", "producer.search"},
    ),
]
WORKER_IMPORTS: list[tuple[str, set[str]]] = [
    ("import worker.run", {"torch", "transformers"}),
    ("import worker.celery_app", {"producer.aio", "producer.client", "torch", "transformers"}),
    (
        "import worker.consumer.__main__",
        {"celery.bin", "flower", "prompt_toolkit", "PIL", "httpx", "numpy", "torch"},
    ),
    ("import worker.consumer.model_pipeline", {"numpy", "torch", "transformers"}),
]


def run_program(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)


def names_for_type_checkers() -> dict[str, str]:
    """Return the module of each name that `producer/__init__.py` imports for types alone."""
    tree = ast.parse((ROOT / "producer" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    return {alias.name: f".{node.module}" for node in imports for alias in node.names}


def test_type_checkers_see_the_same_names() -> None:
    assert names_for_type_checkers() == producer._MODULES
    assert producer.__all__ == sorted(producer._MODULES)


@pytest.mark.parametrize("name", producer.__all__)
def test_a_name_is_that_of_its_module_and_is_listed(name: str) -> None:
    value = getattr(producer, name)
    assert value.__name__ == name
    assert value is getattr(sys.modules[f"producer{producer._MODULES[name]}"], name)
    assert name in dir(producer)


def test_a_public_module_is_an_attribute() -> None:
    # Each before another one imports it.
    run_program(
        "import sys, producer\n"
        "for name in ('errors', 'contract', 'aio'):\n"
        "    assert f'producer.{name}' not in sys.modules, name\n"
        "    assert getattr(producer, name).__name__ == f'producer.{name}'"
    )


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'producer' has no attribute 'Clinet'"):
        _ = producer.Clinet  # type: ignore[attr-defined]
    assert not hasattr(producer, "__wrapped__")


def test_a_star_import_has_all_names() -> None:
    names: dict[str, object] = {}
    exec("from producer import *", names)
    assert {*producer.__all__} <= names.keys()


def test_threads_that_race_get_the_same_objects() -> None:
    run_program(THREADS)


def test_values_and_errors_are_pickled() -> None:
    error = pickle.loads(pickle.dumps(producer.IdTaken("taken")))
    assert (type(error), str(error)) == (producer.IdTaken, "taken")
    assert pickle.loads(pickle.dumps(producer.Task.VQA)) is producer.Task.VQA


@pytest.mark.parametrize("imports", [CLIENT_IMPORTS, WORKER_IMPORTS], ids=["client", "worker"])
def test_an_import_loads_what_it_needs(imports: list[tuple[str, set[str]]]) -> None:
    checks = (f"{line}; check({line!r}, {absent!r})" for line, absent in imports)
    run_program("\n".join([CHECK, *checks]))
