"""Durable operations one after the other, on a database with our tables:
``disk_writer.py URL SEED COUNT NOTES``.

A line of the file NOTES is written behind each: what was acknowledged, or why it was refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from writer import Writer

from workflow_world import World, create_world
from workflow_world.errors import BackendError


class Noting(Writer):
    """Each acknowledgement is one write to a file, at once."""

    def __init__(self, world: World, seed: int, notes: int) -> None:
        super().__init__(world, seed)
        self._notes = notes

    def note(self, *about: object) -> None:
        os.write(self._notes, f"{json.dumps(about)}\n".encode())

    async def _event(self, run_id: str, kind: str, about: str | None, data: Any = None) -> None:
        await super()._event(run_id, kind, about, data)
        self.note("events", self.events[-1])

    async def _message(self) -> None:
        await super()._message()
        self.note("messages", self.messages[-1])

    async def _chunk(self) -> None:
        before = dict(self.chunks)
        await super()._chunk()
        self.note("chunks", *(self.chunks.items() - before.items()))


async def main(url: str, seed: int, count: int, notes: int) -> None:
    world = create_world(url)
    writer = Noting(world, seed, notes)
    for _ in range(count):
        try:
            await writer.durable()
        except BackendError as error:
            writer.note("refused" if error.code == "BACKEND" else error.code, str(error))
    await world.close()
    writer.note("closed")


if __name__ == "__main__":
    file = os.open(sys.argv[4], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), file))
