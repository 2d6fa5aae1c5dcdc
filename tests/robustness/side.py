"""A small application that signs all that it writes: the tests ask later who wrote what."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from workflow_world import EntityConflictError, HookNotFoundError, World

from .helpers import event, until


class Side:
    """One application: a client and a worker that sign all that they write.

    Every run has a step, a stream, an attribute and a hook that the client resumes.
    """

    def __init__(
        self,
        world: World,
        name: str,
        *,
        namespace: str = "",
        suffix: str = "",
        client: World | None = None,
    ) -> None:
        self.world, self.name, self._suffix = world, name, suffix
        self.client = client or world
        self.flow, self.step = f"__{namespace}wkf_workflow_w", f"__{namespace}wkf_step_s"
        self.seen = Counter[str]()
        self._namespace = namespace.rstrip("_")
        world.create_queue_handler(self.flow.removesuffix("w"), self._replay)
        world.create_queue_handler(self.step.removesuffix("s"), self._work)

    def run(self, number: int) -> str:
        return f"wrun_{number}{self._suffix}"

    async def begin(self, number: int, *, forgotten: bool = False) -> None:
        """``forgotten``: the client died before it sent the message."""
        run_id = self.run(number)
        data: dict[str, Any] = {"deploymentId": "d", "workflowName": "w", "input": self.name}
        if self._namespace:
            data["executionContext"] = {"queueNamespace": self._namespace}
        await self.client.events.create(run_id, event("run_created", **data))
        if not forgotten:
            await self._send(self.client, self.flow, run_id, key=f"begin {run_id}")

    async def resume(self, number: int) -> None:
        """Once there is a hook: by its token alone, as whoever calls a webhook does."""
        run_id = self.run(number)

        async def is_live() -> bool:
            try:
                return bool(await self.client.hooks.get_by_token(f"token {run_id}"))
            except HookNotFoundError:
                return False

        await until(is_live)
        hook = await self.client.hooks.get_by_token(f"token {run_id}")
        received = event("hook_received", hook.hook_id, payload=self.name)
        await self.client.events.create(hook.run_id, received)
        await self._send(self.client, self.flow, hook.run_id)

    async def has_ended(self, number: int) -> bool:
        return (await self.client.runs.get(self.run(number))).is_final

    async def _send(
        self, world: World, queue: str, run_id: str, key: str | None = None, **more: str
    ) -> None:
        message = {"runId": run_id, "by": self.name, **more}
        await world.queue(queue, message, idempotency_key=key)

    async def _replay(self, message: object, **about: object) -> None:
        run_id = self._received(message, about)
        log = {one.event_type for one in (await self.world.events.list(run_id)).data}
        if "run_started" not in log:
            change = [{"key": "by", "value": self.name}]
            await self._once(run_id, "run_started")
            await self._once(
                run_id, "attr_set", "attr", changes=change, writer={"type": "workflow"}
            )
            await self._once(run_id, "step_created", "step", stepName="s", input=self.name)
            await self._send(
                self.world, self.step, run_id, key=f"step {run_id}", stepId="step", stepName="s"
            )
        elif "hook_received" in log:
            await self.world.streams.close(run_id, "out")
            await self._once(run_id, "run_completed", output=self.name)
        elif "step_completed" in log:
            await self._once(run_id, "hook_created", "hook", token=f"token {run_id}")

    async def _work(self, message: object, **about: object) -> None:
        run_id = self._received(message, about)
        await self._once(run_id, "step_started", "step")
        await self.world.streams.write(run_id, "out", self.name)
        await self._once(run_id, "step_completed", "step", result=self.name)
        await self._send(self.world, self.flow, run_id)

    def _received(self, message: object, about: Mapping[str, object]) -> str:
        assert isinstance(message, Mapping)
        # What the sweep sends has no signature; which queue it comes by says whose it is.
        self.seen[str(message.get("by", self.name))] += 1
        self.seen["foreign queue"] += about["queue_name"] not in (self.flow, self.step)
        return str(message["runId"])

    async def _once(self, run_id: str, kind: str, key: str | None = None, **data: Any) -> None:
        with suppress(EntityConflictError):  # a delivery that came again
            await self.world.events.create(run_id, event(kind, key, **data))

    async def signatures(self, numbers: Sequence[int]) -> Counter[str]:
        """Who signed what is stored of these runs, and how often: of everything that has a place
        for a signature."""
        found = Counter[str]()
        for number in numbers:
            run_id = self.run(number)
            run = await self.world.runs.get(run_id)
            found.update([run.input, run.output, *(run.attributes or {}).values()])
            for one in (await self.world.events.list(run_id)).data:
                data = one.event_data or {}
                found.update(data[key] for key in ("input", "result", "payload") if key in data)
            step = await self.world.steps.get(run_id, "step")
            found.update([step.input, step.output])
            page = await self.world.streams.get_chunks(run_id, "out")
            assert page.done
            found.update(chunk.data.decode() for chunk in page.data)
        return found


async def go(sides: Sequence[Side], numbers: Sequence[int], *, forgotten: bool) -> None:
    for side in sides:
        await asyncio.gather(*(side.begin(number, forgotten=forgotten) for number in numbers))
    for side in sides:
        await side.world.start()

    async def one(side: Side, number: int) -> None:
        await side.resume(number)
        await until(lambda: side.has_ended(number), side.run(number))

    await asyncio.gather(*(one(side, number) for side in sides for number in numbers))
