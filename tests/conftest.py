"""What every test module shares."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from servers.engines import ALL, Running

# A busy machine is no fault of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

HERE = Path(__file__).parent
WITH_SERVERS = ("hrana", "libsql", "mongodb", "postgres", "servers", "e2e/test_outages.py")
SERVERS = {*ALL} - {"sqlite"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _needs_server(item):
            item.add_marker("servers")


def _needs_server(item: pytest.Item) -> bool:
    """Whole folders and files, the suite of an engine, and what has one as its parameter."""
    place = item.path.relative_to(HERE)
    suite = place.stem.split("_")[1] if place.parts[0] == "conformance" else ""
    call = getattr(item, "callspec", None)
    given = () if call is None else call.params.values()
    return (
        any(place.is_relative_to(one) for one in WITH_SERVERS)
        or suite in SERVERS
        or any(isinstance(one, str) and one.partition("-")[0] in SERVERS for one in given)
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def seed() -> int:
    """Another one each time, unless ``CHAOS_SEED`` gives one. A test that fails shows it."""
    given = os.environ.get("CHAOS_SEED")
    found = random.SystemRandom().randrange(2**32) if given is None else int(given)
    print(f"seed {found}")  # noqa: T201
    return found


@pytest.fixture(scope="session")
def engines() -> Iterator[Running]:
    """``engines(name)``: one of ``servers.engines.ALL``, running."""
    with contextlib.closing(Running()) as found:
        yield found
