"""Guards of the naming rules: unique class names, docstring openings, vague identifiers."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("producer", "worker")
TREES = (*PACKAGES, "config", "demo", "benchmarks", "examples", "tests")
#: A docstring names the thing, or says in the imperative what a function does.
OPENINGS = frozenset(
    {"What", "Whether", "Who", "Whoever", "Which", "How", "Where", "Why", "Nobody", "Somebody"}
)
#: Words that say nothing of the value; docs/decisions.md lists what stands in their place.
VAGUE = frozenset(
    {
        "about",
        "asked",
        "began",
        "found",
        "held",
        "kept",
        "left",
        "most",
        "noted",
        "one",
        "other",
        "place",
        "said",
        "told",
        "wanted",
    }
)
#: Parameters of the public API, which keep their names.
PUBLIC = frozenset({("producer/batch.py", "most")})
Named = (
    ast.FunctionDef
    | ast.AsyncFunctionDef
    | ast.ClassDef
    | ast.ExceptHandler
    | ast.MatchAs
    | ast.MatchStar
)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    """Parsed files by their path below the root."""
    paths = sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.py"))
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths
    }


def bindings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of every variable, parameter, attribute, function and keyword bound."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, Named) and node.name:
            yield node.lineno, node.name


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every docstring."""
    for node in ast.walk(tree):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def test_every_package_is_read(modules: dict[str, ast.Module]) -> None:
    assert {path.partition("/")[0] for path in modules} == {*TREES}


def test_a_class_name_exists_once(modules: dict[str, ast.Module]) -> None:
    places = defaultdict(list)
    for path, tree in modules.items():
        if path.partition("/")[0] in PACKAGES:
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_docstrings_begin_with_a_verb_or_a_noun(modules: dict[str, ast.Module]) -> None:
    wrong = [
        f"{path}:{line}: {text.splitlines()[0]}"
        for path, tree in modules.items()
        for line, text in docstrings(tree)
        if text.split(maxsplit=1)[0] in OPENINGS
    ]
    assert wrong == []


def test_identifiers_name_their_value(modules: dict[str, ast.Module]) -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for path, tree in modules.items()
        for line, name in bindings(tree)
        if name in VAGUE and (path, name) not in PUBLIC
    ]
    assert wrong == []
