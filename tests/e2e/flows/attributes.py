"""Run attributes, set by the workflow and by a step, removed, read and searched."""

from __future__ import annotations

from vercel.workflow import (
    FatalError,
    Workflows,
    remove_attributes,
    set_attributes,
    start,
)

from workflow_world import World

from .common import events_of, result_of

workflows = Workflows()


@workflows.step
async def charge(tier: str) -> None:
    await set_attributes(charged="yes", tier=tier)


@workflows.workflow
async def labelled(tier: str) -> str:
    await set_attributes(phase="new", tier="none", scratch="x")
    await charge(tier)
    await remove_attributes("scratch", "never there")
    await set_attributes(phase="done")
    try:
        await set_attributes({"": "no key"})
    except FatalError as error:
        return str(error)
    return "not reached"


async def scenario(world: World) -> None:
    gold, silver = await start(labelled, "gold"), await start(labelled, "silver")
    assert "must not be empty" in await result_of(world, gold)
    assert "must not be empty" in await result_of(world, silver)
    assert await gold.attributes() == {"phase": "done", "tier": "gold", "charged": "yes"}
    found = await world.runs.list(attributes={"tier": "silver", "phase": "done"})
    assert [run.run_id for run in found.data] == [silver.run_id]
    sets = await events_of(world, gold, "attr_set")
    writers = [event.event_data["writer"]["type"] for event in sets]
    assert writers == ["workflow", "step", "workflow", "workflow"]
    assert sets[2].event_data["changes"][0] == {"key": "scratch", "value": None}
