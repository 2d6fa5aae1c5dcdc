"""What every test module shares."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from servers.engines import Running


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def engines() -> Iterator[Running]:
    """``engines(name)``: one of ``servers.engines.ENGINES``, running."""
    with contextlib.closing(Running()) as found:
        yield found
