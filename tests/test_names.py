"""Guards of the naming rules: unique class names, docstring openings, vague identifiers."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Names:
    """The names and docstrings of a file, each with its line."""

    #: Variables, parameters, attributes, functions and keywords.
    bindings: list[tuple[int, str]] = field(default_factory=list)
    docstrings: list[tuple[int, str]] = field(default_factory=list)
    classes: list[tuple[int, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def names() -> dict[str, Names]:
    """Names by the file's path below the root."""
    paths = sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.py"))
    return {str(path.relative_to(ROOT)): names_in(path) for path in paths}


def names_in(path: Path) -> Names:
    """Return the names of a file, whose tree is freed."""
    names = Names()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                names.bindings.append((node.lineno, node.id))
        elif isinstance(node, ast.arg):
            names.bindings.append((node.lineno, node.arg))
        elif isinstance(node, ast.Attribute):
            if isinstance(node.ctx, ast.Store):
                names.bindings.append((node.lineno, node.attr))
        elif isinstance(node, Named) and node.name:
            names.bindings.append((node.lineno, node.name))
        if isinstance(node, ast.ClassDef):
            names.classes.append((node.lineno, node.name))
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            names.docstrings.append((node.body[0].lineno, text))
    return names


def test_every_package_is_read(names: dict[str, Names]) -> None:
    assert {path.partition("/")[0] for path in names} == {*TREES}


def test_a_class_name_exists_once(names: dict[str, Names]) -> None:
    places = defaultdict(list)
    for path, own in names.items():
        if path.partition("/")[0] in PACKAGES:
            for line, name in own.classes:
                places[name].append(f"{path}:{line}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_docstrings_begin_with_a_verb_or_a_noun(names: dict[str, Names]) -> None:
    wrong = [
        f"{path}:{line}: {text.splitlines()[0]}"
        for path, own in names.items()
        for line, text in own.docstrings
        if text.split(maxsplit=1)[0] in OPENINGS
    ]
    assert wrong == []


def test_identifiers_name_their_value(names: dict[str, Names]) -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for path, own in names.items()
        for line, name in own.bindings
        if name in VAGUE and (path, name) not in PUBLIC
    ]
    assert wrong == []
