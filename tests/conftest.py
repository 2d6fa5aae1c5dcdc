"""What every test module shares."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.engines import ENGINES, Running

HERE = Path(__file__).parent
WITH_SERVERS = ("hrana", "libsql", "postgres", "servers", "e2e/test_outages.py")
SERVERS = {*ENGINES} - {"sqlite"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs a server: whole folders and files, suites of an engine, and its parameter."""
    for item in items:
        place = item.path.relative_to(HERE)
        suite = place.stem.removeprefix("test_").split("_")[0] if place.parts[0] == "conformance" else ""
        parameters = getattr(item, "callspec", None)
        named = {one for one in parameters.params.values() if isinstance(one, str)} if parameters else set()
        if any(place.is_relative_to(one) for one in WITH_SERVERS) or SERVERS & {suite, *named}:
            item.add_marker("servers")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def engines() -> Iterator[Running]:
    """``engines(name)``: one of ``servers.engines.ENGINES``, running."""
    with contextlib.closing(Running()) as found:
        yield found
