"""What these tests share: their length, events, and processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from workflow_world import World

LONG: Final = bool(os.environ.get("CHAOS_LONG"))
"""Set by ``nox -s chaos``: everything below takes its long form."""

PATIENCE_S: Final = 1800 if LONG else int(os.environ.get("CHAOS_PATIENCE_S", "60"))
"""How long a test waits for what must happen. Only a failing test waits so long."""

FLOWS, STEPS = "__wkf_workflow_", "__wkf_step_"
FLOW, STEP = FLOWS + "w", STEPS + "s"


def event(kind: str, key: str | None = None, **data: object) -> dict[str, object]:
    return {"eventType": kind, "correlationId": key, "eventData": data or None}


async def create_run(world: World, run_id: str) -> None:
    await world.events.create(
        run_id, event("run_created", deploymentId="d", workflowName="w", input=b"")
    )


async def until(holds: Callable[[], Awaitable[Any]], what: object = "it never happened") -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await holds():  # noqa: ASYNC110  # another process or loop makes it so
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


class Process:
    """A process that runs a command of a script beside this file, ``child.py`` by default."""

    def __init__(
        self, *arguments: str, script: str = "child.py", env: Mapping[str, str] | None = None
    ) -> None:
        path = Path(__file__).with_name(script)
        self._process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self) -> str:
        """The next line that it prints; waits for it."""
        assert self._process.stdout is not None
        found = self._process.stdout.readline().strip()
        if not found:
            raise AssertionError(f"the process ended early: {self._process.communicate()[1]}")
        return found

    def go(self) -> None:
        """Let it pass its ``ready``."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def end(self, *, code: int = 0) -> list[str]:
        """Wait for its end. Returns: the rest of what it printed."""
        out, err = self._process.communicate(timeout=PATIENCE_S)
        assert self._process.returncode == code, err
        return out.splitlines()

    def kill(self) -> None:
        """SIGKILL: nothing of it runs any more when this returns."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # it died with a line unread
                    pipe.close()


async def all_ready(processes: list[Process]) -> None:
    """Wait until each has said that it is, then let them all go."""
    for process in processes:
        assert await asyncio.to_thread(process.line) == "ready"
    for process in processes:
        process.go()


async def ends_of(processes: list[Process]) -> list[list[str]]:
    return list(await asyncio.gather(*(asyncio.to_thread(one.end) for one in processes)))
