"""What this process does not have is left to others, for as long as they may still come."""

from __future__ import annotations

import functools
import logging
from typing import Any

import pytest
from vercel.workflow import Workflows
from vercel.workflow._internal import core
from vercel.workflow._internal import world as w

from workflow_world.testing.clock import ManualClock
from workflow_world.vercel.elsewhere import PATIENCE, left_to_others

pytestmark = pytest.mark.anyio

PREFIX = "__wkf_workflow_"
workflows = Workflows(as_vercel_job=False)


@workflows.workflow
async def known() -> None: ...


@workflows.step
async def done() -> None: ...


class Process:
    """One that has ``workflows``; ``seen`` are the messages that got to the SDK's handler."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.seen: list[str] = []
        handler = functools.partial(self._handle, registry=workflows)
        self._handler = left_to_others(self.clock, PREFIX, handler)

    async def take(
        self, message: object, workflow: str = known.workflow_id, message_id: str = "msg_1"
    ) -> w.QueueContinuation | None:
        return await self._handler(
            message, attempt=1, queue_name=PREFIX + workflow, message_id=message_id
        )

    async def _handle(
        self,
        message: Any,
        *,
        attempt: int,
        queue_name: str,
        message_id: str,
        registry: core.Workflows,
    ) -> None:
        self.seen.append(message_id)


@pytest.mark.parametrize(
    ("message", "workflow"),
    [
        ({"runId": "wrun_1"}, known.workflow_id),
        ({"runId": "wrun_1", "stepId": "step_1", "stepName": done.name}, known.workflow_id),
        (
            {"runId": "wrun_1", "stepId": "step_1", "stepName": next(iter(core._builtin_steps))},  # pyright: ignore[reportPrivateUsage]
            known.workflow_id,
        ),
        ({"__healthCheck": True, "correlationId": "c"}, "health_check"),
        ("no mapping", "unknown"),
    ],
)
async def test_what_it_has_is_handled_at_once(message: object, workflow: str) -> None:
    process = Process()
    assert await process.take(message, workflow) is None
    assert process.seen == ["msg_1"]


@pytest.mark.parametrize(
    ("message", "workflow", "missing"),
    [
        ({"runId": "wrun_1"}, "workflow//new//flow", "workflow workflow//new//flow"),
        (
            {"runId": "wrun_1", "stepId": "step_1", "stepName": "step//new//s"},
            known.workflow_id,
            "step step//new//s",
        ),
    ],
)
async def test_what_it_lacks_waits_for_others_and_then_fails(
    message: object, workflow: str, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process()
    waited = 0.0
    with caplog.at_level(logging.WARNING):
        while (again := await process.take(message, workflow)) is not None:
            assert 0.25 <= again.delay_seconds <= 5
            waited += again.delay_seconds
            process.clock.advance(again.delay_seconds)
    assert process.seen == ["msg_1"]
    assert 0 <= waited - PATIENCE.total_seconds() <= 5
    assert [missing in record.getMessage() for record in caplog.records] == [True]


async def test_each_message_has_its_own_time() -> None:
    process = Process()
    for number in range(5):
        again = await process.take({"runId": "wrun_1"}, "unknown", f"msg_{number}")
        assert again is not None
        assert again.delay_seconds == 0.25
        process.clock.advance(PATIENCE.total_seconds() - 1)
    assert process.seen == []
