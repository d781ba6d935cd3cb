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
FILES = sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.py"))
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


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


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


def test_a_class_name_exists_once() -> None:
    places = defaultdict(list)
    for path in FILES:
        if path.relative_to(ROOT).parts[0] in PACKAGES:
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{relative(path)}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_docstrings_begin_with_a_verb_or_a_noun(path: Path) -> None:
    wrong = [
        f"{path}:{node.body[0].lineno}: {text.splitlines()[0]}"
        for node in ast.walk(parsed(path))
        if isinstance(node, Documented)
        and (text := ast.get_docstring(node))
        and text.split(maxsplit=1)[0] in OPENINGS
    ]
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_identifiers_name_their_value(path: Path) -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for line, name in bindings(parsed(path))
        if name in VAGUE and (relative(path), name) not in PUBLIC
    ]
    assert wrong == []
