"""Failing steps: retried, fatal, used up; and a message that can never be delivered."""

from __future__ import annotations

from collections import Counter

from vercel.workflow import (
    FatalError,
    RetryableError,
    WorkflowRunFailedError,
    Workflows,
    get_run,
    get_step_metadata,
    start,
)

from workflow_world import World

from .common import events_of, refused, result_of

workflows = Workflows()
tries: Counter[str] = Counter()


@workflows.step
async def flaky(name: str, failures: int) -> int:
    tries[name] += 1
    attempt = get_step_metadata().attempt
    assert attempt == tries[name]
    if attempt <= failures:
        raise RetryableError(f"{name} {attempt}", retry_after=1)
    return attempt


@workflows.step(max_retries=1)
async def stubborn() -> None:
    tries["stubborn"] += 1
    raise ValueError("never works")


@workflows.step
async def fatal() -> None:
    tries["fatal"] += 1
    raise FatalError("no use")


@workflows.workflow
async def patient() -> int:
    return await flaky("patient", 2)


@workflows.workflow
async def catches() -> str:
    try:
        await fatal()
    except FatalError as error:
        return f"caught {error}"
    return "not reached"


@workflows.workflow
async def gives_up() -> None:
    await stubborn()


async def scenario(world: World) -> None:
    runs = [await start(patient), await start(catches), await start(gives_up)]
    assert await result_of(world, runs[0]) == 3
    retrying = await events_of(world, runs[0], "step_retrying")
    started = await events_of(world, runs[0], "step_started")
    assert (len(retrying), len(started)) == (2, 3)
    for failed, next_try in zip(retrying, started[1:], strict=True):
        assert next_try.created_at >= failed.event_data["retryAfter"], "no retry came early"

    assert await result_of(world, runs[1]) == "caught no use"
    assert tries["fatal"] == 1

    with refused(WorkflowRunFailedError, "failed after 1 retry"):
        await result_of(world, runs[2])
    assert tries["stubborn"] == 2
    assert await runs[2].status() == "failed"

    await poisoned(world)


async def poisoned(world: World) -> None:
    """A message that no handler can read ends its run, with a code and a reason."""
    run = await world.runs.create(workflow_name=patient.workflow_id, input=b"not an input")
    queue = f"__wkf_workflow_{patient.workflow_id}"
    await world.queue(queue, {"runId": run.run_id, "stepId": 7})
    ended = await world.runs.wait(run.run_id, timeout=45)
    assert (ended.status, ended.error_code) == ("failed", "MAX_DELIVERIES_EXCEEDED")
    with refused(WorkflowRunFailedError, "could not be delivered") as errors:
        await get_run(run.run_id).return_value()
    assert errors[0].error_code == "MAX_DELIVERIES_EXCEEDED"
    [message] = (await world.messages.list(run_id=run.run_id, status="failed")).data
    assert message.attempt == world.settings.max_retries
