"""A cancellable step that its workflow cancels, and a run that is terminated."""

from __future__ import annotations

import asyncio

from vercel.workflow import Workflows, sleep, start

from workflow_world import World

from .common import events_of, refused, result_of, until

workflows = Workflows()
ends: list[str] = []
at_work = asyncio.Event()
let_go = asyncio.Event()


@workflows.step(cancellable=True)
async def endless() -> None:
    at_work.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ends.append("endless cancelled")
        raise


@workflows.step
async def held() -> str:
    at_work.set()
    await let_go.wait()
    ends.append("held finished")
    return "too late"


@workflows.workflow
async def impatient() -> str:
    task = asyncio.create_task(endless())
    await sleep(1)
    task.cancel("took too long")
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    return "not reached"


@workflows.workflow
async def terminated() -> str:
    return await held()


async def scenario(world: World) -> None:
    run = await start(impatient)
    await at_work.wait()
    assert await result_of(world, run) == "cancelled"
    await until(lambda: events_of(world, run, "step_failed"))
    assert ends == ["endless cancelled"]

    ends.clear()
    at_work.clear()
    run = await start(terminated)
    await at_work.wait()
    await run.terminate(reason="changed my mind")
    await run.terminate()
    assert await run.status() == "cancelled"
    with refused(RuntimeError, "workflow cancelled"):
        await run.return_value()
    let_go.set()
    # The step was running and may end; its outcome is recorded behind the end of the run.
    await until(lambda: events_of(world, run, "step_completed"))
    assert ends == ["held finished"]
    kinds = [event.event_type for event in await events_of(world, run)]
    assert kinds.index("run_cancelled") < kinds.index("step_completed")
    assert "run_completed" not in kinds
    assert (await world.runs.get(run.run_id)).status == "cancelled"
