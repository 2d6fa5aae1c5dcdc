from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from workflow_world import World, create_world
from workflow_world.vercel import SdkWorld

# This folder must not become a package: it would hide the SDK's own `vercel`.


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A World that the SDK does not know of; no worker runs."""
    made = create_world("memory:")
    yield made
    await made.close()


@pytest.fixture
def sdk(world: World) -> SdkWorld:
    return SdkWorld(world)
