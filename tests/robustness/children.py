"""Processes that are forked, which is much cheaper than to start each. What one returns comes back
as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

PATIENCE_S = float(os.environ.get("CHAOS_PATIENCE_S", "200"))
FLOWS, FLOW, STEPS = "__wkf_workflow_", "__wkf_workflow_w", "__wkf_step_"


def event(kind: str, key: str | None = None, **data: object) -> dict[str, object]:
    return {"eventType": kind, "correlationId": key, "eventData": data or None}


def created() -> dict[str, object]:
    return event("run_created", deploymentId="d", workflowName="w", input=b"")


class Child:
    """A forked process: its id, what it says, and what it is told."""

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._source, sink = os.pipe()
        self._text = b""
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                result = asyncio.run(_awaited(work))
                with os.fdopen(sink, "w") as pipe:
                    json.dump(result, pipe)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(sink)

    def end(self, *, codes: Sequence[int] = (0,)) -> Any:
        """What it returned; None when it did not come to that."""
        text = b""
        while part := os.read(self._source, 65_536):
            text += part
        os.close(self._source)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code not in codes:
            raise AssertionError(f"a child ended with {code}")
        return json.loads(text) if text else None


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(PATIENCE_S * 30):
        return await work()


def at_once(count: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """``work`` in so many children, which begin together."""
    gate, opened = os.pipe()

    def begin(number: int) -> Callable[[], Awaitable[Any]]:
        async def wait_and_work() -> Any:
            os.close(opened)
            await asyncio.to_thread(os.read, gate, 1)
            return await work(number)

        return wait_and_work

    children = [Child(begin(number)) for number in range(count)]
    os.close(gate)
    os.close(opened)  # now every read ends
    return [child.end() for child in children]
