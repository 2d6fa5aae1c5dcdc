"""Writes to a database and tells what was acknowledged: ``writer.py URL SEED``.

Each line of input asks for so many durable operations and then so many that need no flush. The
answer is one JSON line with everything acknowledged so far; nothing is written until the next.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from datetime import timedelta
from itertools import count
from typing import Any

from workflow_world import World, create_world
from workflow_world.core.delivery import Done, Limits, settle

QUEUE = "__wkf_workflow_greet"


class Writer:
    def __init__(self, world: World, seed: int) -> None:
        self._world, self._chance = world, random.Random(seed)  # noqa: S311
        self.events: list[tuple[str, int, str]] = []
        self.chunks: dict[str, int] = {}
        self.messages: list[str] = []
        self._open: dict[str, list[str]] = {}
        self._numbers = count()

    async def durable(self) -> None:
        kinds = (self._run, self._step, self._step, self._message, self._chunk)
        await self._chance.choice(kinds)()

    async def unflushed(self) -> None:
        """A claim and its settlement; or a message that a delivery would send again."""
        store = self._world.backend.messages
        claim = await store.claim(
            limit=2, lease=timedelta(hours=1), serialize_runs=False, prefixes=None
        )
        for message in claim.messages:
            done = settle(message, Done(), now=message.updated_at, spread=0, limits=Limits())
            await store.settle([(done, None)])

    async def _event(self, run_id: str, kind: str, about: str | None, data: Any = None) -> None:
        event = {"eventType": kind, "correlationId": about, "eventData": data}
        made = (await self._world.events.create(run_id, event)).event
        assert made is not None
        self.events.append((run_id, made.position, made.event_id))

    async def _run(self) -> None:
        run_id = f"wrun_{next(self._numbers)}"
        about = {"deploymentId": "d", "workflowName": "w", "input": self._payload()}
        await self._event(run_id, "run_created", None, about)
        await self._event(run_id, "run_started", None)
        self._open[run_id] = []

    async def _step(self) -> None:
        if not self._open:
            await self._run()
        run_id = self._chance.choice([*self._open])
        step_id = f"step_{len(self._open[run_id])}"
        self._open[run_id].append(step_id)
        about = {"stepName": "s", "input": self._payload()}
        await self._event(run_id, "step_created", step_id, about)
        await self._event(run_id, "step_started", step_id)
        await self._event(run_id, "step_completed", step_id, {"result": self._payload()})

    async def _message(self) -> None:
        self.messages.append(await self._world.queue(QUEUE, {"n": len(self.messages)}))

    async def _chunk(self) -> None:
        name = f"stream_{self._chance.randrange(3)}"
        await self._world.streams.write("wrun_0", name, self._payload())
        self.chunks[name] = self.chunks.get(name, 0) + 1

    def _payload(self) -> bytes:
        return self._chance.randbytes(self._chance.choice((10, 300, 9_000)))


async def main(url: str, seed: int) -> None:
    async with create_world(url) as world:
        writer = Writer(world, seed)
        while line := await asyncio.to_thread(sys.stdin.readline):
            durable, unflushed = map(int, line.split())
            for _ in range(durable):
                await writer.durable()
            print("flushed", flush=True)  # noqa: T201
            await asyncio.to_thread(sys.stdin.readline)
            for _ in range(unflushed):
                await writer.unflushed()
            known = {"events": writer.events, "chunks": writer.chunks, "messages": writer.messages}
            print(json.dumps(known), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
