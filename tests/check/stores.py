"""A store with a bit of everything, two hours old, and ways to look at it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from workflow_world import World, create_world
from workflow_world.check import Report, check
from workflow_world.core.ulid import encode_ulid
from workflow_world.core.values import to_ms
from workflow_world.testing import ManualClock

AGE: Final = timedelta(hours=2)
QUEUE: Final = "__wkf_workflow_greet"


def run_id(number: int) -> str:
    return f"wrun_{encode_ulid(1_800_000_000_000 + number, number)}"


BUSY, ENDED, LEGACY, PENDING, STEPPING = (run_id(number) for number in range(1, 6))
"""Runs: in the middle of everything; completed; cancelled as legacy; not started; in a step."""

GONE: Final = run_id(99)


@dataclass(frozen=True)
class Store:
    """A database file, or one in memory, as its name says."""

    url: str
    path: Path
    start: datetime

    @property
    def clock(self) -> ManualClock:
        """A clock that says now: the store is ``AGE`` old by it."""
        return ManualClock(self.start + AGE)

    def world(self, **options: Any) -> World:
        return create_world(self.url, clock=self.clock, **options)

    async def check(self, **options: Any) -> Report:
        world = self.world()
        try:
            return await check(world, **options)
        finally:
            await world.close()

    def damage(self, *statements: str, **values: object) -> None:
        """Change rows behind the package's back, constraints or not."""
        with raw(self.path) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for statement in statements:
                needed = {key: value for key, value in values.items() if f":{key}" in statement}
                connection.execute(statement, needed)


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def beginning() -> datetime:
    """So long ago that all grace is over, by the system's clock."""
    return datetime.now(UTC) - AGE


async def fill(world: World, clock: ManualClock) -> None:
    """Every kind of row, none of them wrong."""

    async def send(
        run: str, event_type: str, key: str | None = None, *, version: int = 5, **data: Any
    ) -> None:
        clock.advance(0.5)
        event = {
            "eventType": event_type,
            "correlationId": key,
            "specVersion": version,
            "eventData": data or None,
        }
        await world.events.create(run, event)

    creation = {"deploymentId": "dpl", "workflowName": "greet", "input": b"in"}
    for run, version in ((BUSY, 5), (ENDED, 6), (LEGACY, 1), (PENDING, 5), (STEPPING, 5)):
        await send(run, "run_created", version=version, **creation)
    await send(LEGACY, "run_cancelled")
    for run in (BUSY, ENDED, STEPPING):
        await send(run, "run_started")
        await send(run, "step_created", "step_1", stepName="add", input=b"one")
        await send(run, "step_started", "step_1")
    for run in (BUSY, ENDED):
        await send(run, "step_completed", "step_1", result=b"sum")
        await send(run, "step_created", "step_2", stepName="add", input=b"two")
        await send(run, "step_retrying", "step_2", error=b"not yet")
        await send(run, "step_started", "step_2")
        await send(run, "hook_created", "hook_1", token=f"first of {run}", metadata={"a": 1.5})
        await send(run, "hook_created", "hook_2", token=f"second of {run}")
        await send(run, "hook_received", "hook_1", payload=b"hello")
        await send(run, "hook_disposed", "hook_2")
        await send(run, "wait_created", "wait_1", resumeAt=clock.now())
        await send(run, "wait_completed", "wait_1")
        await send(run, "wait_created", "wait_2", resumeAt=clock.now() + timedelta(days=7))
        await send(run, "attr_set", "attr_1", changes=[{"key": "k", "value": "v"}], writer=WORKFLOW)
        await world.streams.write_multi(run, "out", [b"a", b"", b"c"])
    await send(ENDED, "run_completed", output={"answer": 42})
    await send(ENDED, "step_completed", "step_2", result=None)
    await world.streams.close(ENDED, "out")
    for run in (BUSY, PENDING):
        await world.queue(QUEUE, {"runId": run})
    for run, step in ((BUSY, "step_2"), (STEPPING, "step_1")):
        body = {"runId": run, "stepId": step, "stepName": "add"}
        await world.queue(QUEUE, body, idempotency_key=f"{run} {step}", delay_seconds=1)
    await world.queue(QUEUE, {"__healthCheck": True, "correlationId": "c"})
    body = {"runId": GONE, "runInput": {"input": b"its run is created from this"}}
    await world.queue(QUEUE, body)


WORKFLOW: Final = {"type": "workflow"}


async def make(url: str, path: Path, start: datetime) -> Store:
    clock = ManualClock(start)
    world = create_world(url, clock=clock)
    await fill(world, clock)
    if not url.startswith("memory:"):
        await world.close()
    return Store(url=url, path=path, start=start)


def copied(store: Store, path: Path) -> Store:
    shutil.copyfile(store.path, path)
    return Store(url=f"file:{path}", path=path, start=store.start)


def message_ids(store: Store) -> dict[str, str]:
    """The ids of the unfinished messages by run, those for steps left out."""
    with raw(store.path) as connection:
        rows = connection.execute(
            "SELECT run_id, message_id FROM queue_messages WHERE step_id IS NULL"
        ).fetchall()
    return {run or "": message_id for run, message_id in rows}


def ms(when: datetime) -> int:
    return to_ms(when)
