"""Imports point one way (style 2): checked on the source, so nothing has to be importable."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import workflow_world

ROOT = Path(workflow_world.__file__).parent
PACKAGE = "workflow_world"
MODULES = sorted(ROOT.rglob("*.py"))
BACKENDS = ("sql", "memory", "mongodb")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Every module the file imports anywhere in it, as absolute names; names that it takes from
    a package are listed too, for they may be modules."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def is_in(module: str, *packages: str) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in packages)


def part_of(path: Path) -> str:
    """The first name below the package: ``core``, ``sql``, ``registry`` …"""
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


def breaches(
    parts: set[str] | None, *forbidden: str, but: frozenset[str] = frozenset()
) -> list[str]:
    """``file imports module`` for files of these parts (None: all) that import the forbidden."""
    return [
        f"{name_of(path)} imports {module}"
        for path in MODULES
        if (parts is None or part_of(path) in parts) and part_of(path) not in but
        for module in sorted(imports_of(path))
        if is_in(module, *forbidden)
    ]


def test_the_reader_of_imports_sees_them_all() -> None:
    assert f"{PACKAGE}.core.decision" in imports_of(ROOT / "backend" / "__init__.py")
    assert f"{PACKAGE}.core.ulid" in imports_of(ROOT / "ids.py")
    assert f"{PACKAGE}.core.log" in imports_of(ROOT / "core" / "rules.py")
    assert f"{PACKAGE}.vercel" in imports_of(ROOT / "factory.py")
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", sorted((ROOT / "core").rglob("*.py")), ids=lambda path: path.stem)
def test_core_is_pure(path: Path) -> None:
    """It imports the standard library, itself and the errors; no clock, no chance, no I/O."""
    impure = {"asyncio", "threading", "time", "random", "secrets", "os", "socket", "uuid", "io"}
    for module in imports_of(path):
        top = module.partition(".")[0]
        if top == PACKAGE:
            assert is_in(module, f"{PACKAGE}.core", f"{PACKAGE}.errors"), module
        else:
            assert top in sys.stdlib_module_names, module
            assert top not in impure, module
    source = path.read_text(encoding="utf-8")
    assert "await " not in source.replace("no await", "")
    assert ".now(" not in source


def test_only_the_adapter_imports_the_sdk() -> None:
    """The demo is an application: it uses the SDK as any other does."""
    assert breaches(None, "vercel", but=frozenset({"vercel", "demo"})) == []
    assert breaches(None, f"{PACKAGE}.vercel", but=frozenset({"vercel", "factory", "cli"})) == []


def test_only_the_registry_knows_concrete_backends() -> None:
    names = tuple(f"{PACKAGE}.{backend}" for backend in BACKENDS)
    allowed = frozenset({*BACKENDS, "registry", "factory", "cli", "testing"})
    assert breaches(None, *names, but=allowed) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_knows_the_core_and_the_seam_only(backend: str) -> None:
    above = ("api", "world", "worker", "streams", "vercel", "cli")
    others = tuple(one for one in BACKENDS if one != backend)
    assert breaches({backend}, *(f"{PACKAGE}.{name}" for name in (*above, *others))) == []


def test_nobody_imports_the_testing_package() -> None:
    assert breaches(None, f"{PACKAGE}.testing", "pytest", but=frozenset({"testing"})) == []


def test_the_seam_knows_the_core_only() -> None:
    parts = {path.stem for path in ROOT.iterdir()} - {"core", "backend", "__init__"}
    assert breaches({"backend"}, *(f"{PACKAGE}.{part}" for part in parts)) == []
