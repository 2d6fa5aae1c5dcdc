"""What the tests on Postgres share: events, and processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from servers.children import ChildProcess

from workflow_world import World

CHILD: Final = Path(__file__).with_name("child.py")
PATIENCE_S: Final = 60
"""How long a test waits for what must happen. Only a failing test waits so long."""

QUEUE: Final = "__wkf_workflow_greet"


class Child(ChildProcess):
    """A process of its own that runs a command of ``child.py``; killed at the end."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(CHILD, *arguments)

    def end(self) -> list[str]:
        """Wait for a good end. Returns: the rest of what it printed."""
        out, err = self.finish(timeout=PATIENCE_S)
        assert not err, err
        return out.splitlines()


def event(kind: str, correlation_id: str | None = None, **data: object) -> dict[str, object]:
    return {"eventType": kind, "correlationId": correlation_id, "eventData": data or None}


async def create_run(world: World, run_id: str, **data: Any) -> None:
    created = event("run_created", deploymentId="d", workflowName="greet", input=1, **data)
    await world.events.create(run_id, created)


async def log_of(world: World, run_id: str) -> list[tuple[str, str | None]]:
    """Types and correlation ids, in order."""
    page = await world.events.list(run_id=run_id, limit=1000)
    return [(one.event_type, one.correlation_id) for one in page.data]


async def eventually(holds: Callable[[], Any], what: str = "it never happened") -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # other processes make it so
            await asyncio.sleep(0.01)
    assert holds(), what
