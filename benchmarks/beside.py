"""A process of ours beside the measuring one: lines of text over its stdin and stdout.

It is a module with a coroutine that gets a job, and ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 120.0
_END_S = 30.0


class Partner:
    """The other process, seen from the measuring one. Its stderr is the measuring process's."""

    def __init__(self, process: asyncio.subprocess.Process, module: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, process.stdout
        self._process, self._module = process, module

    def say(self, line: str) -> None:
        self._to.write(line.encode() + b"\n")

    async def hear(self, timeout: float | None = _TIMEOUT_S) -> str:
        """The next line. Raises: TimeoutError, EOFError when the process has ended."""
        line = await asyncio.wait_for(self._from.readline(), timeout)
        if not line:
            raise EOFError(f"{self._module} ended early")
        return line.decode().rstrip("\n")

    async def end(self) -> None:
        self._to.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def beside(module: str, **job: Any) -> AsyncIterator[Partner]:
    """Run a module of this package; its process has ended on leaving."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"{__package__}.{module}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    partner = Partner(process, module)
    try:
        partner.say(json.dumps(job))
        yield partner
    finally:
        await partner.end()


def tell(line: str) -> None:
    """In the other process: a line to the measuring one."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def heard() -> str | None:
    """In the other process: the next line, or None at the end."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return line.rstrip("\n") if line else None


def serve(work: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """The other process's main function."""

    async def run() -> None:
        job = await heard()
        if job is not None:
            await work(json.loads(job))

    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.run(run())
