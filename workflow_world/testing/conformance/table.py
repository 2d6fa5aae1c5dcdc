"""Which test proves which behaviour, on which backends: the table in ``docs/conformance.md``.

``python -m workflow_world.testing.conformance.table`` writes it, from the root of a checkout;
``--check`` says whether the file is right and every number has a test or a stated reason. Tests
are read, not imported, so this needs nothing of what they need.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from ...factory import create_world
from .checklist import BACKENDS, ELSEWHERE, ENGINES, FOLDERS, IN_PART, UNPROVED, sections

PAGE: Final = Path("docs/conformance.md")
_SUITE: Final = Path("workflow_world/testing/conformance")
_NUMBERS: Final = re.compile(r"(?<=_)b(\d{3})(?=_|$)")
_HEAD: Final = """\
# What is proved, and where

Every numbered behaviour of the specification, the tests that prove it and the backends they ran
on. Tests named by a module alone are the public suite's, in `workflow_world/testing/conformance`;
[backends.md](backends.md) says how to run it on a backend of your own.

Written by `python -m workflow_world.testing.conformance.table`; do not edit.
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One test: where it stands, what it is called, and the backends that run it."""

    path: Path
    name: str
    backends: tuple[str, ...]

    def __str__(self) -> str:
        place = self.path.stem if self.path.parent == _SUITE else self.path.as_posix()
        return f"`{place}::{self.name}`"


@cache
def selections(root: Path) -> dict[str, frozenset[str]]:
    """The backends that have a test module in ``tests/conformance``, and the modules of the suite
    that it always takes in: what it imports under a condition does not count."""
    whole = frozenset(_modules_of_the_suite(root))
    found: dict[str, frozenset[str]] = {}
    for path in sorted((root / "tests/conformance").glob("test_*.py")):
        names = {
            node.module.rpartition(".")[2]
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.ImportFrom)
            and node.module
            and ".testing.conformance." in node.module
            and node.names[0].name == "*"
        }
        chosen = whole if "suite" in names else whole & names
        if chosen:
            found[path.stem.removeprefix("test_").replace("_", "-")] = chosen
    return found


def backends_of(root: Path) -> tuple[str, ...]:
    return tuple(sorted(selections(root)))


def proofs(root: Path) -> dict[str, list[Proof]]:
    """The tests by number: those whose names say it, then those that are listed for it.

    Raises: LookupError when a listed test does not exist.
    """
    found: dict[str, list[Proof]] = {}
    suite = [root / _SUITE / f"{name}.py" for name in _modules_of_the_suite(root)]
    for path in (*suite, *sorted((root / "tests").glob("*/test_*.py"))):
        for name, function in _tests_of(path):
            for number in _NUMBERS.findall(function.name):
                proof = _proof(root, path, name, function)
                found.setdefault(f"B{number}", []).append(proof)
    for number, node_ids in ELSEWHERE.items():
        found.setdefault(number, []).extend(_listed(root, node_id) for node_id in node_ids)
    return found


def problems(root: Path) -> list[str]:
    """What is wrong with the list itself: a line each."""
    texts = {number: text for group in sections().values() for number, text in group.items()}
    expected = [f"B{number:03}" for number in range(1, len(texts) + 1)]
    found: list[str] = []
    if list(texts) != expected:
        found.append("the numbers of the checklist are not dense")
    try:
        by_number = proofs(root)
    except LookupError as error:
        return [*found, str(error)]
    found += [f"{number} is not in the checklist" for number in sorted({*by_number} - {*texts})]
    for number in texts:
        if number not in by_number and number not in UNPROVED:
            found.append(f"{number} has neither a test nor a reason why not")
        if number in by_number and number in UNPROVED:
            found.append(f"{number} has a test and a reason why it has none")
    found += [
        f"tests/conformance/test_{name.replace('-', '_')}.py has no entry in BACKENDS"
        for name in backends_of(root)
        if name not in BACKENDS
    ]
    return found


def page(root: Path) -> str:
    """The whole page."""
    by_number = proofs(root)
    lines = [_HEAD, *_parts(root)]
    for title, texts in sections().items():
        lines += [f"## {title}", "", "| | behaviour | tests | backends |", "|---|---|---|---|"]
        for number, text in texts.items():
            tests = by_number.get(number, [])
            named = "<br>".join(map(str, tests)) or f"none: {UNPROVED.get(number, '?')}"
            text = text.replace("|", "\\|")
            lines.append(f"| {number} | {text} | {named} | {', '.join(_ran_on(tests)) or '–'} |")
        lines.append("")
    return "\n".join(lines)


def _parts(root: Path) -> list[str]:
    """Which backends run a selection of the suite only."""
    whole = frozenset(_modules_of_the_suite(root))
    return [
        f"On {backend} the modules {', '.join(f'`{name}`' for name in sorted(chosen))} are run: "
        f"{IN_PART[backend]}\n"
        for backend, chosen in sorted(selections(root).items())
        if chosen != whole
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with ``--check`` compare it. Returns: the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/conformance.md")
    parser.add_argument("--check", action="store_true", help="compare only; 1 when it differs")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    if not (root / _SUITE).is_dir():
        parser.error("run this from the root of a checkout")
    if found := problems(root):
        sys.stderr.writelines(f"{problem}\n" for problem in found)
        return 1
    new, path = page(root), root / PAGE
    if not options.check:
        path.parent.mkdir(exist_ok=True)
        path.write_text(new, "utf-8")
    elif not path.exists() or path.read_text("utf-8") != new:
        sys.stderr.write(f"{PAGE} is out of date: run python -m {__package__}.table\n")
        return 1
    return 0


def _modules_of_the_suite(root: Path) -> list[str]:
    tree = ast.parse((root / _SUITE / "suite.py").read_text("utf-8"))
    return [
        node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
    ]


@cache
def _body(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text("utf-8")).body


def _tests_of(path: Path) -> Iterator[tuple[str, Function]]:
    """Test functions and test methods, with the name that follows ``::`` in a node id."""
    for node in _body(path):
        if isinstance(node, Function) and node.name.startswith("test_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for inner in node.body:
                if isinstance(inner, Function) and inner.name.startswith("test_"):
                    yield f"{node.name}::{inner.name}", inner


def _proof(root: Path, path: Path, name: str, function: Function | None) -> Proof:
    file, path = path, path.relative_to(root)
    if path.parent != _SUITE:
        engines = () if function is None else _engines(file, function)
        return Proof(path=path, name=name, backends=engines or (FOLDERS[path.parts[1]],))
    needs = {
        str(call.args[1].value)
        for call in (() if function is None else ast.walk(function))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "need"
        and isinstance(call.args[1], ast.Constant)
    }
    able = (
        backend
        for backend, chosen in sorted(selections(root).items())
        if path.stem in chosen and all(_has(backend, need) for need in needs)
    )
    return Proof(path=path, name=name, backends=tuple(able))


def _engines(path: Path, function: Function) -> tuple[str, ...]:
    """The engines that are a parameter of the test, given there or by a list of the module."""
    lists: dict[str, ast.AST] = {
        target.id: node.value
        for node in _body(path)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = set[object]()
    for decorator in function.decorator_list:
        names = {node.id for node in ast.walk(decorator) if isinstance(node, ast.Name)}
        found.update(ENGINES if "ALL" in names else ())
        found.update(set(ENGINES) - {"mongodb"} if "ENGINES" in names else ())
        for part in (decorator, *(lists[name] for name in names & lists.keys())):
            found.update(node.value for node in ast.walk(part) if isinstance(node, ast.Constant))
    return tuple(engine for engine in ENGINES if engine in found)


def _listed(root: Path, node_id: str) -> Proof:
    file, _, name = node_id.partition("::")
    path = root / file
    if path.is_file():
        tests = dict(_tests_of(path))
        if name in tests or any(test.startswith(f"{name}::") for test in tests):
            return _proof(root, path, name, tests.get(name))
    raise LookupError(f"{node_id} does not exist")


@cache
def _has(backend: str, capability: str) -> bool:
    """Asks a World that is never used: creating one does no I/O."""
    return bool(getattr(create_world(BACKENDS[backend]).backend.capabilities, capability))


def _ran_on(tests: Sequence[Proof]) -> list[str]:
    """Each backend once; "in part" when only some of the tests run on it."""
    suite = [test for test in tests if test.path.parent == _SUITE]
    named = dict.fromkeys(name for test in tests for name in test.backends)
    return [
        name if all(name in test.backends for test in suite) else f"{name} (in part)"
        for name in named
    ]


if __name__ == "__main__":
    sys.exit(main())
