"""What the tests on Postgres share: events, and processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from workflow_world import World

CHILD: Final = Path(__file__).with_name("child.py")
PATIENCE_S: Final = 60
"""How long a test waits for what must happen. Only a failing test waits so long."""

QUEUE: Final = "__wkf_workflow_greet"


class Child:
    """A process of its own that runs a command of ``child.py``; killed at the end."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """The next line that it prints; waits for it."""
        assert self.process.stdout is not None
        found = self.process.stdout.readline().strip()
        if not found:
            raise AssertionError(f"the process ended early: {self.process.communicate()[1]}")
        return found

    def go(self) -> None:
        """Let it pass its ``ready``."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self) -> list[str]:
        """Wait for a good end. Returns: the rest of what it printed."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, err
        assert not err, err
        return out.splitlines()

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more when this returns."""
        self.process.kill()
        self.process.wait(timeout=PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # it died with a line unread
                    pipe.close()


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
