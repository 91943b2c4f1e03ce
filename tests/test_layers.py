"""The arrows between the rooms point down, and only backends/ knows other people's models."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "tadasu"

#: Floors from the ground up. A room may import from its own floor's own room and from below.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset(
        {"concepts", "records", "document", "policies", "references", "naming", "files", "japanese"}
    ),
    frozenset({"policy"}),
    frozenset({"statistics"}),
    frozenset({"detectors"}),
    frozenset({"guidance", "editing", "auditing", "alignment"}),
    frozenset({"backends"}),
    frozenset({"world"}),
    frozenset({"store"}),
    frozenset({"screen"}),
    frozenset({"review", "rollout", "guard", "examination"}),
    frozenset({"evaluation"}),
    frozenset({"cli", "server"}),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
#: Only these may import the bundled world.
KNOW_THE_WORLD = frozenset({"cli", "world"})
#: Exceptions to the arrows, ``(file, room)``. Empty, and meant to stay so.
ALLOWED: frozenset[tuple[str, str]] = frozenset()

NETWORKS = frozenset({"torch", "diffusers", "transformers", "peft", "accelerate", "onnxruntime"})
#: Which heavy libraries a room may import; rooms that are not listed may import none.
MAY_IMPORT = {
    "guidance": frozenset({"torch"}),
    "editing": frozenset({"torch"}),
    "auditing": frozenset({"torch"}),
    "alignment": frozenset({"torch"}),
    "backends": NETWORKS,
    "world": frozenset({"torch"}),
    "guard": frozenset({"torch"}),
    "examination": frozenset({"torch"}),
    "cli": frozenset({"torch"}),
    "evaluation": frozenset({"torch"}),
}


def files() -> list[Path]:
    return sorted(path for path in SRC.rglob("*.py") if path != SRC / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports at run time, at the top or inside a function, dotted."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["tadasu", *path.relative_to(SRC).parent.parts]
    for node in runtime(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def runtime(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runtime(child)


def every_import(path: Path) -> set[str]:
    """Also those for types only: an arrow is an arrow."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
            if node.module == "tadasu":
                found |= {f"tadasu.{alias.name}" for alias in node.names}
    return found


def upward(path: Path, modules: set[str]) -> list[str]:
    """Imports of a file that point up, sideways or to an unknown room."""
    own = room(path)
    wrong = []
    for module in sorted(modules):
        parts = module.split(".")
        if parts[0] != "tadasu" or len(parts) < 2 or parts[1] in (own, "__version__"):
            continue
        other = parts[1]
        down = other in LEVEL and LEVEL[other] < LEVEL[own]
        sibling = own == "cli" and other in LEVEL and LEVEL[other] < LEVEL["cli"]
        world = other == "world" and own not in KNOW_THE_WORLD
        if (not (down or sibling) or world) and (str(path.relative_to(SRC)), other) not in ALLOWED:
            wrong.append(f"{path.relative_to(SRC)} imports {module}")
    return wrong


def test_every_room_has_a_floor() -> None:
    unknown = {room(path) for path in files()} - set(LEVEL)
    assert not unknown, f"give these rooms a floor in FLOORS: {sorted(unknown)}"


def test_arrows_point_down() -> None:
    wrong = [line for path in files() for line in upward(path, every_import(path))]
    assert wrong == []


def test_only_backends_import_networks() -> None:
    wrong = [
        f"{path.relative_to(SRC)} imports {module}"
        for path in files()
        for module in sorted(set(imports(path)))
        if (top := module.split(".")[0]) in NETWORKS
        and top not in MAY_IMPORT.get(room(path), frozenset())
    ]
    assert wrong == []


def test_nothing_is_excepted() -> None:
    assert frozenset() == ALLOWED


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("guidance/sld.py", "tadasu.backends.diffusers.attach"),
        ("policy.py", "tadasu.guard"),
        ("detectors/names.py", "tadasu.guidance.rule"),
        ("guard.py", "tadasu.world"),
        ("guard.py", "tadasu.evaluation.page"),
        ("errors.py", "tadasu.nowhere"),
    ],
)
def test_a_planted_arrow_is_seen(file: str, module: str) -> None:
    assert upward(SRC / file, {module}) == [f"{file} imports {module}"]


def test_an_import_inside_a_function_is_seen(tmp_path: Path) -> None:
    inside = "def f():\n    import diffusers\n"
    shielded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
    file = SRC / "policy.py"
    assert "diffusers" in {
        alias.name
        for node in runtime(ast.parse(inside))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert not any(isinstance(node, ast.Import) for node in runtime(ast.parse(shielded)))
    assert "tadasu.concepts" in set(imports(file))
