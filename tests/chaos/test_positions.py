"""The positions of a log under many writers, some of whom fail, give up, or are cut off."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from functools import partial
from typing import Any

import pytest
from servers.engines import ALL, APART, Running

from workflow_world import BackendError, NewEvent, World, WorldError, create_world, faults
from workflow_world.core.fold import fold
from workflow_world.testing.conformance.helpers import walk

LONG = bool(os.environ.get("CHAOS_LONG"))
EVENTS = 10_000 if LONG else 500
COST = {"sqlite": 1, "postgres": 1, "libsql": 5, "mongodb": 5}
RUN, WRITERS = "wrun_dense", 24


class Writers:
    """Steps of one run, each created, started and completed by one of them.

    ``acknowledged`` and ``refused`` are events by kind and step; of one that was cancelled nobody
    knows.
    """

    def __init__(self, worlds: list[World], chance: random.Random, count: int) -> None:
        self._worlds, self._chance, self._left = worlds, chance, count
        self.acknowledged, self.refused = set[tuple[str, str]](), set[tuple[str, str]]()
        self.outcomes = Counter[str]()

    async def one(self, name: str) -> None:
        number = 0
        while self._left > 0:
            number += 1
            step = f"step_{name}_{number}"
            for kind, data in (
                ("step_created", {"stepName": "s", "input": step}),
                ("step_started", {}),
                ("step_completed", {"result": step}),
            ):
                await self._try(kind, step, data)
            await self._fail(step)

    async def _try(self, kind: str, step: str, data: dict[str, Any]) -> None:
        writing = asyncio.create_task(self._write(kind, step, data))
        if self._chance.random() < 0.1:
            await asyncio.sleep(self._chance.uniform(0, 0.003))
            writing.cancel()
        try:
            await writing
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
        except WorldError as error:
            # Cut off; or the step was, when it should have been created or started.
            self.outcomes[type(error).__name__] += 1
            self.refused.add((kind, step))
        else:
            self.outcomes["written"] += 1
            self.acknowledged.add((kind, step))
            self._left -= 1

    async def _fail(self, step: str) -> None:
        """What is refused by a rule, and what no database can store."""
        kind, data = self._chance.choice(
            [
                ("step_created", {"stepName": "s", "input": b""}),
                ("step_completed", {"result": b"again"}),
                ("hook_created", {"token": "\ud800"}),
                ("step_created", {"stepName": "\udfff", "input": b""}),
                ("attr_set", {"changes": [{"key": "k", "value": 1}], "writer": {"type": "step"}}),
            ]
        )
        about = step if "\udfff" not in str(data) else f"{step}_bad"
        try:
            await self._write(kind, about, data)
        except WorldError as error:
            self.outcomes[f"refused {error.status}"] += 1
        else:
            # The first of its kind, because it was cut off when it came.
            self.acknowledged.add((kind, about))
            self.refused.discard((kind, about))

    async def _write(self, kind: str, step: str, data: dict[str, Any]) -> None:
        new = NewEvent(event_type=kind, correlation_id=step, event_data=data or None)
        await self._chance.choice(self._worlds).events.create(RUN, new)


@pytest.mark.anyio
@pytest.mark.timeout(3600 if LONG else 300)
@pytest.mark.parametrize("name", ALL)
async def test_positions_are_dense_whatever_writers_do(
    engines: Running, name: str, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311

    def cut_off(point: str) -> None:
        if point != "after commit" and chance.random() < 0.01:
            raise BackendError(f"cut off {point}")

    with engines(name).database() as url:
        worlds = [create_world(url), create_world(url, **APART[name])]
        try:
            await worlds[0].runs.create(workflow_name="w", run_id=RUN)
            await worlds[0].events.create(RUN, NewEvent(event_type="run_started"))
            writers = Writers(worlds, chance, EVENTS // COST[name])
            with faults.armed(cut_off):
                await asyncio.gather(*(writers.one(str(number)) for number in range(WRITERS)))
            print(dict(writers.outcomes))  # noqa: T201
            # Of what was cancelled some may be on its way; this comes behind it.
            for number, world in enumerate(worlds):
                last = {"stepName": "s", "input": b""}
                await world.events.create(
                    RUN,
                    NewEvent(
                        event_type="step_created", correlation_id=f"last_{number}", event_data=last
                    ),
                )
            await verify(worlds[1], writers)
        finally:
            for world in worlds:
                await world.close()


async def verify(world: World, writers: Writers) -> None:
    log = await walk(partial(world.events.list, RUN), limit=1000)
    assert [one.position for one in log] == [*range(1, len(log) + 1)]
    assert len({one.event_id for one in log}) == len(log)
    assert [one.event_id for one in log] == sorted(one.event_id for one in log)
    there = Counter((one.event_type, one.correlation_id) for one in log[2:])
    assert set(there.values()) == {1}
    assert writers.acknowledged <= there.keys()
    assert not writers.refused & there.keys()
    assert fold(log).run == await world.runs.get(RUN)
    assert writers.outcomes["written"] > 0
