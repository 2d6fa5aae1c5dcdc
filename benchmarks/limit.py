"""The least that ours could take for runs of the SDK: the floor, which also executes the very
statements of ours, recorded in another process, a share of them at each event and each message. No
rule, no model of ours, no thread and no task of ours is in it, and none of the reads between the
writes: nothing that stores the same with the same flushes, on that thread, can be faster.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from vercel.workflow._internal import world as w

from . import sdk_level
from .floor import FloorWorld
from .measure import in_child
from .plan import Sizes
from .statements import Recording, connected
from .stores import DATABASE

RECORDED = "recorded"
"""The name under which a process only records."""
_Transaction = list[tuple[str, Any]]


class LimitWorld(FloorWorld):
    def __init__(self) -> None:
        super().__init__()
        self.replay: Replay | None = None

    async def events_create(self, run_id: str | None, data: w.Event) -> w.EventResult:
        self._go_on()
        return await super().events_create(run_id, data)

    async def queue(self, queue_name: str, message: w.QueuePayload, **kwargs: Any) -> str:
        self._go_on()
        return await super().queue(queue_name, message, **kwargs)

    def _go_on(self) -> None:
        if self.replay is not None:
            self.replay.go_on()


class Replay:
    """Executes recorded transactions, spread evenly over a number of calls."""

    def __init__(
        self, connection: sqlite3.Connection, transactions: Sequence[_Transaction], calls: int
    ) -> None:
        self._cursor = connection.cursor()
        self._transactions, self._calls = transactions, calls
        self._called = self._done = 0

    def go_on(self) -> None:
        self._called += 1
        due = min(len(self._transactions), len(self._transactions) * self._called // self._calls)
        for transaction in self._transactions[self._done : due]:
            for sql, parameters in transaction:
                self._cursor.execute(sql, parameters).fetchall()
        self._done = due


async def run(
    workloads: Sequence[str], sizes: Sizes, directory: Path
) -> dict[str, dict[str, float]]:
    elsewhere = directory / RECORDED
    elsewhere.mkdir()
    in_child(RECORDED, workloads, sizes, elsewhere)
    place = elsewhere / "sdk"

    @contextmanager
    def replaying(world: Any, workload: str) -> Iterator[None]:
        transactions, calls = pickle.loads(_notes(place, workload).read_bytes())  # noqa: S301
        with closing(connected(_copy(place, workload))) as connection:
            world.replay = Replay(connection, transactions, calls)
            yield
            world.replay = None

    return await sdk_level.run("floor-statements", workloads, sizes, directory, around=replaying)


async def record(
    workloads: Sequence[str], sizes: Sizes, directory: Path
) -> dict[str, dict[str, float]]:
    """Ours, and beside its database what it executed in each workload."""
    recording = Recording(directory / DATABASE)

    @contextmanager
    def noting(world: Any, workload: str) -> Iterator[None]:
        calls = 0
        create, queue = world.events_create, world.queue

        def counted(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def one_more(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                return await call(*args, **kwargs)

            return one_more

        world.events_create, world.queue = counted(create), counted(queue)
        recording.begin(_copy(directory, workload))
        yield
        world.events_create, world.queue = create, queue
        notes = [*_transactions(recording.statements)], calls
        _notes(directory, workload).write_bytes(pickle.dumps(notes))

    return await sdk_level.run(
        "ours", workloads, sizes, directory, around=noting, options={"engine": recording.engine()}
    )


def _transactions(statements: Sequence[tuple[str, Any]]) -> Iterator[_Transaction]:
    """Each with what was set before it."""
    one = _Transaction()
    for statement in statements:
        one.append(statement)
        if statement[0] == "COMMIT":
            yield one
            one = _Transaction()


def _copy(directory: Path, workload: str) -> Path:
    return directory / f"{workload}.db"


def _notes(directory: Path, workload: str) -> Path:
    return directory / f"{workload}.pickle"
