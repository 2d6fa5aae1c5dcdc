"""The module that defines the workflows installs the World too, at its top.

The SDK imports it again for every replay; the World must stay one. It also hands over keys, so
payloads are encrypted at rest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from vercel.workflow import BaseHook, Workflows, start

import workflow_world
from workflow_world import World
from workflow_world.vercel import SdkWorld

from .common import events_of, hook_is_live, result_of


def key_of(run_id: str, *, deployment_id: str | None = None) -> bytes:
    assert deployment_id in (None, "dpl_e2e")
    return hashlib.blake2b(run_id.encode(), key=b"master", digest_size=32).digest()


world = workflow_world.install(run_key=key_of, deployment_id="dpl_e2e")
workflows = Workflows()


@dataclass
class Secret(BaseHook):
    word: str


@workflows.step
async def repeat(word: str, times: int) -> str:
    return word * times


@workflows.workflow
async def guarded(word: str) -> tuple[str, int]:
    secret = await Secret.wait(token="guarded", metadata="canary in metadata")  # noqa: S106
    repeated = await repeat(word + secret.word, 2)
    # In here this module is another copy, but its World is the one outside.
    return repeated, id(world)


async def scenario(given: World) -> None:
    from vercel.workflow._internal import world as w

    current = w.get_world()
    assert isinstance(current, SdkWorld)
    assert current.world is given is world
    run = await start(guarded, "canary")
    await hook_is_live("guarded")
    await Secret(word=" canary ").resume("guarded")
    assert await result_of(world, run) == ("canary canary canary canary ", id(world))
    assert w.get_world() is current, "no replay installed another World"

    stored = [
        value
        for event in await events_of(world, run)
        for value in (event.event_data or {}).values()
        if isinstance(value, bytes)
    ]
    assert len(stored) >= 5
    assert not any(b"canary" in value for value in stored), "payloads are encrypted at rest"
