"""What a step and a replay cost, in transactions and statements: counted, never timed.

The differences between a longer and a shorter run are exact, whatever starting and ending cost. No
poll happens meanwhile: everything is enqueued by this process.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import workflow_world
from workflow_world import World
from workflow_world.sql.backend import SqlBackend
from workflow_world.sql.compiled import Row, Session, Statement
from workflow_world.sql.database import Database
from workflow_world.sql.log_cache import LogCache

world = workflow_world.install(poll_interval_ms=3_600_000)

from vercel.workflow import Workflows, start  # noqa: E402

workflows = Workflows()


@workflows.step
async def double(number: int) -> int:
    return 2 * number


@workflows.workflow
async def in_sequence(count: int) -> int:
    total = 0
    for number in range(count):
        total += await double(number)
    return total


class Count:
    """Jobs of the lanes and the statements behind them, from now on."""

    def __init__(self, database: Database) -> None:
        self.jobs: Counter[str] = Counter()
        self.statements: Counter[str] = Counter()
        self._watch(database._writes, lambda job: "unflushed" if job.repeatable else "flushed")
        self._watch(database._reads, lambda job: "read by a hop")
        self.rows = 0
        execute, read = Session._execute, LogCache._rows

        def counted(session: Session, statement: Statement, values: Any) -> None:
            self.statements[statement.before.removeprefix("before ")] += 1
            execute(session, statement, values)

        Session._execute = counted  # type: ignore[method-assign]

        def rows_of(log: LogCache, *about: Any) -> list[Row]:
            found = read(log, *about)
            self.rows += len(found)
            return found

        LogCache._rows = rows_of  # type: ignore[method-assign]

    def _watch(self, lane: Any, kind: Callable[[Any], str]) -> None:
        transact, at_once = lane._transact, getattr(lane, "_at_once", None)

        def counted(jobs: Sequence[Any]) -> None:
            # The watcher's own look at the lane comes at its own times.
            self.jobs.update(kind(job) for job in jobs if job.loop is not None)
            transact(jobs)

        lane._transact = counted
        if at_once is not None:  # only the write lane of a file has it

            def counted_at_once(jobs: Sequence[Any]) -> bool:
                done: bool = at_once(jobs)
                if done:
                    self.jobs.update(kind(job) for job in jobs)
                return done

            lane._at_once = counted_at_once


async def played(world: World, count: Count, steps: int) -> tuple[Counter[str], Counter[str]]:
    """Jobs and statements of one run, from its start until its last message is settled."""
    count.jobs.clear()
    count.rows = 0
    count.statements.clear()
    await start(in_sequence, steps)
    # A message is enqueued before the one that makes it is settled: there is always one left.
    for _ in range(1000):
        if {*await states(world)} == {"completed"}:
            return count.jobs.copy(), count.statements.copy()
        await asyncio.sleep(0.01)
    raise AssertionError(f"messages are left: {await states(world)}")


async def states(world: World) -> list[str]:
    stats = await world.messages.stats()
    return [status for counts in stats.counts.values() for status in counts]


PER_STEP = {
    "insert event": 3,  # created, started, completed
    "insert step": 1,
    "update step": 2,
    "load step": 1,  # that it does not exist yet
    "load run": 2,  # the SDK asks for the run at each delivery
    "read log": 1,  # the rows since the last replay, and the one before them
    "insert message": 2,  # the step's, and the wake-up after it; both taken as they are stored
    "find key holder": 1,
    "find last completed": 1,
    "find pending wake-up": 1,
    "find replay of run": 1,
    "find held back message": 1,
    "find lease token": 6,  # does the delivery that writes, or starts a running run, hold it?
    "end messages": 2,
}
JOBS_PER_STEP = {
    "flushed": 3,  # only the events wait for the disk
    "unflushed": 4,  # two enqueues, two settlements
}
AROUND_THE_STEPS = {
    "load run": 4,  # created, started (a look, then the write), completed
    "insert run": 1,
    "update run": 2,
    "insert event": 3,
    "delete hooks of run": 1,
    "close waits of run": 1,
    "insert message": 1,
    "find replay of run": 1,
    "find lease token": 3,
    "read log": 1,
    "find held back message": 1,
    "end messages": 1,
}
"""The start of a run with its first replay, and its end."""
JOBS_AROUND_THE_STEPS = {"flushed": 4, "unflushed": 1}
"""Three events and the first message; its settlement."""
ROWS_PER_REPLAY = 4
"""However long the log is: three new events, and the last known one to prove the rest by."""
AT_THEIR_OWN_TIMES = {"count messages", "find soonest due time"}


async def scenario(world: World) -> None:
    assert isinstance(world.backend, SqlBackend)
    count = Count(world.backend.database)
    await played(world, count, 1)
    few_jobs, few = await played(world, count, 5)
    around = {name: few[name] - 5 * PER_STEP.get(name, 0) for name in few}
    around = {name: n for name, n in around.items() if n and name not in AT_THEIR_OWN_TIMES}
    assert around == AROUND_THE_STEPS, around
    jobs = {kind: few_jobs[kind] - 5 * n for kind, n in JOBS_PER_STEP.items()}
    assert jobs == JOBS_AROUND_THE_STEPS, jobs
    few_rows = count.rows
    many_jobs, many = await played(world, count, 25)
    more = {name: many[name] - few[name] for name in {*many, *few} - AT_THEIR_OWN_TIMES}
    assert {name: n / 20 for name, n in more.items() if n} == PER_STEP, more
    jobs = {kind: (many_jobs[kind] - few_jobs[kind]) / 20 for kind in JOBS_PER_STEP}
    assert jobs == JOBS_PER_STEP, jobs
    assert (count.rows - few_rows) / 20 == ROWS_PER_REPLAY
