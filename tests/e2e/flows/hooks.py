"""Hooks: payloads in order, conflicts, disposal, and errors that both sides can catch."""

from __future__ import annotations

from dataclasses import dataclass

import vercel.workflow as sdk
from vercel.workflow import BaseHook, HookConflictError, Workflows, get_hook_by_token, start

import workflow_world
from workflow_world import World

from .common import events_of, hook_is_live, refused, result_of

workflows = Workflows()


@dataclass
class Approval(BaseHook):
    by: str
    amount: int


@workflows.workflow
async def approve(token: str) -> list[str]:
    seen: list[str] = []
    async with Approval.wait(token=token, metadata={"about": token}) as hook:
        async for approval in hook:
            seen.append(f"{approval.by} {approval.amount}")
            if approval.amount < 0:
                break
    return seen


@workflows.workflow
async def rival(token: str) -> str:
    hook = Approval.wait(token=token)
    owner = await hook.get_conflict()
    try:
        await hook
    except HookConflictError as error:
        return f"{owner.run_id if owner else None} {error.conflicting_run_id}"
    return "no conflict"


async def scenario(world: World) -> None:
    run = await start(approve, "order 7")
    await hook_is_live("order 7")
    hook = await get_hook_by_token("order 7")
    assert (hook.run_id, hook.metadata) == (run.run_id, {"about": "order 7"})

    loser = await start(rival, "order 7")
    assert await result_of(world, loser) == f"{run.run_id} {run.run_id}"

    for number in range(5):
        await Approval(by="ann", amount=number).resume("order 7")
    await Approval(by="bob", amount=-1).resume(hook)
    assert await result_of(world, run) == [*(f"ann {n}" for n in range(5)), "bob -1"]
    assert len(await events_of(world, run, "hook_received")) == 6
    assert len(await events_of(world, run, "hook_disposed")) == 1

    for token_or_hook in ("order 7", hook):
        with refused(workflow_world.HookNotFoundError) as errors:
            await Approval(by="late", amount=1).resume(token_or_hook)
        assert isinstance(errors[0], sdk.HookNotFoundError)
    # The token is free again.
    again = await start(approve, "order 7")
    await hook_is_live("order 7")
    await Approval(by="eve", amount=-2).resume("order 7")
    assert await result_of(world, again) == ["eve -2"]
