"""Messages for workflows and steps that nobody has: ``unknown.py URL``. One line says the ends."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

import workflow_world

world = workflow_world.install(sys.argv[1], max_retries=2, poll_interval_ms=20)

from good_flow import good  # noqa: E402
from vercel.workflow import start  # noqa: E402

from workflow_world.vercel import elsewhere  # noqa: E402

# Nobody waits for five minutes here.
elsewhere.PATIENCE = timedelta(seconds=2)  # type: ignore[misc]  # pyright: ignore[reportConstantRedefinition]


def event(kind: str, key: str | None = None, **data: object) -> dict[str, object]:
    return {"eventType": kind, "correlationId": key, "eventData": data or None}


async def put(run_id: str, *events: dict[str, object]) -> None:
    for each in events:
        await world.events.create(run_id, each)


async def end_of(run_id: str) -> list[str]:
    """How a run ended, and every reason that is stored for it."""
    run = await world.runs.wait(run_id, 60)
    reasons: list[Any] = [run.error] if run.error else []
    reasons += [step.error for step in (await world.steps.list(run_id)).data if step.error]
    page = await world.messages.list(run_id=run_id)
    reasons += [message.last_error for message in page.data if message.last_error]
    return [run.status, " ".join(map(str, reasons))]


async def main() -> None:
    create = {"deploymentId": "dpl_sql", "input": b""}
    await put("wrun_nope", event("run_created", workflowName="nope", **create))
    await world.queue("__wkf_workflow_nope", {"runId": "wrun_nope"})
    await put(
        "wrun_step",
        event("run_created", workflowName="nope_either", **create),
        event("run_started"),
        event("step_created", "step_1", stepName="nope", input=b""),
    )
    step = {
        "runId": "wrun_step",
        "stepId": "step_1",
        "stepName": "nope",
    }
    await world.queue("__wkf_workflow_nope_either", step)
    async with world:
        run = await start(good, "x")
        found = {
            "good": await end_of(run.run_id),
            "unknown workflow": await end_of("wrun_nope"),
            "unknown step": await end_of("wrun_step"),
        }
    print(json.dumps(found), flush=True)  # noqa: T201


asyncio.run(main())
