"""Statements of one kind become one over a set of rows: with the same effect, in the same order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import postgres
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from workflow_world import World
from workflow_world.clock import SYSTEM_CLOCK
from workflow_world.errors import WorldError
from workflow_world.sql.compiled import Read, Statement
from workflow_world.sql.holding import Holding
from workflow_world.sql.postgres.arrays import DUMPERS
from workflow_world.sql.postgres.connections import Connection, give_up_after
from workflow_world.sql.postgres.session import AS_EVER, IN_ORDER, PostgresSession
from workflow_world.sql.postgres.sets import MOST_BYTES, Sets
from workflow_world.sql.queue.statements import QueueStatements
from workflow_world.sql.run_statements import RunStatements
from workflow_world.sql.tables import tables

from .conftest import MakeWorld
from .helpers import create_run, event, log_of

pytestmark = pytest.mark.anyio

RUNS, QUEUE = RunStatements(tables()), QueueStatements(tables(), skips_locked=True)
SETS = Sets(PGDialect_psycopg())
TABLES = ("workflow_runs", "workflow_steps", "workflow_events", "queue_messages")
RUN_IDS, STEP_IDS = ("wrun_1", "wrun_2"), ("s1", "s2", "ß%(x)s")

Write: TypeAlias = tuple[Statement, tuple[Any, ...]]


@pytest.fixture
def connection(server: postgres.Server, name: str) -> Iterator[Connection]:
    with psycopg.connect(server.url(name), autocommit=True) as found:
        give_up_after(found, 60)
        for array, dumper in DUMPERS:
            found.adapters.register_dumper(array, dumper)
        yield found


def session_on(connection: Connection, *, careful: bool = False) -> PostgresSession:
    return PostgresSession(connection, SETS, SYSTEM_CLOCK.now, careful=careful)


def content(connection: Connection) -> list[list[Any]]:
    return [
        connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2".encode()).fetchall()  # noqa: S608
        for table in TABLES
    ]


def run_row(run_id: str) -> tuple[Any, ...]:
    return (run_id, "pending", "d", "w", 5, *[None] * 5, "{}", *[None] * 4, 1, 1, None)


NUMBERS = st.integers(0, 2**62)
BLOBS = st.none() | st.binary(max_size=20)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@st.composite
def writes(draw: st.DrawFn) -> list[Write]:
    """About few rows, so that many are about the same one."""
    found, positions, steps = list[Write](), itertools.count(1), set[tuple[str, str]]()
    messages = itertools.count(1)
    for _ in range(draw(st.integers(1, 25))):
        run_id, step_id = draw(st.sampled_from(RUN_IDS)), draw(st.sampled_from(STEP_IDS))
        kind = draw(st.sampled_from(("event", "step", "step", "run", "message", "close")))
        if kind == "event":
            due = draw(st.none() | NUMBERS)
            about = (draw(TEXTS), "wait_created", str(len(found)), 5, draw(BLOBS), draw(NUMBERS))
            rest = (None, draw(st.none() | TEXTS), None, due)
            resume = None if rest[1] is None else f"{len(found)} {rest[1]}"
            row = (run_id, next(positions), *about, None, resume, None, due)
            found.append((RUNS.insert_event, row))
        elif kind == "step" and (run_id, step_id) not in steps:
            steps.add((run_id, step_id))
            row = (run_id, step_id, draw(TEXTS), "running", draw(BLOBS), None, None, 1)
            found.append((RUNS.insert_step, (*row, draw(NUMBERS), None, None, 1, 1, None)))
        elif kind == "step":
            change = ("running", None, draw(BLOBS), draw(st.integers(0, 9)), None, None)
            row = (*change, draw(NUMBERS), draw(NUMBERS), run_id, step_id)
            found.append((RUNS.update_step, row))
        elif kind == "run":
            change = ("running", None, None, draw(TEXTS), draw(TEXTS), draw(NUMBERS), None)
            found.append((RUNS.update_run, (*change, draw(NUMBERS), run_id)))
        elif kind == "message":
            head = (f"m{next(messages)}", "q", draw(st.binary(max_size=9)), "pending", 1, 3, 0)
            body = (None, draw(NUMBERS), None, None, None, run_id, step_id, draw(st.just(False)))
            row = (*head, *body, None, draw(st.none() | TEXTS), None, 1, 1, None, None)
            found.append((QUEUE.insert, row))
        else:
            found.append((RUNS.close_waits, (run_id,)))
    return found


def do(session: PostgresSession, write: Write, how: Callable[..., object]) -> None:
    statement, values = write
    if statement is RUNS.close_waits:
        how(statement, b_run_id=values[0])
    elif statement is QUEUE.insert:
        session.put(statement, values)
    else:
        how(statement, values)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chosen=writes())
def test_waiting_writes_have_the_effect_of_single_ones(
    connection: Connection, chosen: list[Write]
) -> None:
    effects = list[list[list[Any]]]()
    for alone in (False, True):
        with connection.transaction(force_rollback=True):
            session = session_on(connection, careful=alone)
            for run_id in RUN_IDS:
                session.put(RUNS.insert_run, run_row(run_id))
            for write in chosen:
                do(session, write, session.run if alone else session.send)
            session.flush()
            effects.append(content(connection))
    assert effects[0] == effects[1]


def reads() -> list[Read]:
    runs, steps = [*RUN_IDS, "none"], [*STEP_IDS, "none"]
    found = [
        (statement, {"run_id": run_id})
        for statement in (RUNS.run, RUNS.run_head, QUEUE.pending_wake_up, QUEUE.replaying)
        for run_id in (*runs, runs[0])
    ]
    found += [(QUEUE.held_back, {"run_id": run_id}) for run_id in runs]
    found += [(RUNS.step, {"run_id": run, "step_id": one}) for run in runs for one in steps]
    kinds = ("wait_created", "wait_completed")
    found += [
        (RUNS.related(kinds), {"run_id": run, "correlation_id": one})
        for run in runs
        for one in steps
    ]
    found += [(QUEUE.last_completed, {"key": key}) for key in ("k", "none")]
    found += [(QUEUE.key_holder, {"key": key, "except_id": "m1"}) for key in ("l", "none")]
    return found


async def test_reads_at_once_find_what_single_ones_find(
    connection: Connection, world: World
) -> None:
    for run_id in RUN_IDS:
        await create_run(world, run_id)
        for step_id in STEP_IDS:
            await world.events.create(run_id, event("step_created", step_id, stepName="s", input=1))
            at = "2030-01-01T00:00:00Z"
            await world.events.create(run_id, event("wait_created", step_id, resumeAt=at))
        await world.events.create(run_id, event("wait_completed", STEP_IDS[0]))
        await world.queue("__wkf_workflow_greet", {"runId": run_id})
    await world.queue("__wkf_step_s", {"runId": RUN_IDS[0]}, idempotency_key="l")
    session, chosen = session_on(connection), reads()
    at_once = session._read_all(chosen)
    assert [sorted(rows, key=repr) for rows in at_once] == [
        sorted(session.all(statement, **values), key=repr) for statement, values in chosen
    ]
    assert sum(map(bool, at_once)) > len(chosen) / 3


def test_all_statements_with_a_row_have_a_form_for_many() -> None:
    for statement in (
        *(RUNS.insert_run, RUNS.update_run, RUNS.insert_step, RUNS.update_step),
        *(RUNS.insert_event, QUEUE.insert),
    ):
        rows = [tuple([None] * len(statement.names))] * 2
        assert len(SETS.writes(statement, rows, bold=True)) == 1


def test_nothing_about_a_new_run_comes_before_it(connection: Connection) -> None:
    """Events of runs that exist wait already, and those of a new one would be sent with them."""

    def created(run_id: str) -> tuple[Any, ...]:
        return (run_id, 1, "e", "run_created", None, 5, None, 1, None, None, None, None)

    session = session_on(connection)
    session.send(RUNS.insert_run, run_row("wrun_1"))
    session.flush()
    session.send(RUNS.insert_event, created("wrun_1"))
    for run_id in ("wrun_2", "wrun_3"):
        session.send(RUNS.insert_run, run_row(run_id))
        session.send(RUNS.insert_event, created(run_id))
    session.flush()
    found = connection.execute("SELECT run_id FROM workflow_events ORDER BY run_id").fetchall()
    assert found == [("wrun_1",), ("wrun_2",), ("wrun_3",)]


def test_large_writes_are_not_gathered(connection: Connection) -> None:
    session = session_on(connection)
    with connection.transaction():
        session.send(RUNS.insert_run, run_row("wrun_1"))
        for number in range(3):
            step = ("wrun_1", f"s{number}", "s", "running", b"x" * MOST_BYTES, None, None, 1)
            session.send(RUNS.insert_step, (*step, None, None, None, 1, 1, None))
        assert len(session._waiting.take()) == 4


def test_leases_read_at_once_are_waited_for(
    connection: Connection, server: postgres.Server, name: str
) -> None:
    """Who has to wait for a lock reads what the other one has written."""
    for number in range(3):
        row = (f"m{number}", "q", b"", "processing", 1, 3, 1, None, 1, f"t{number}", 9, 1, None)
        session = session_on(connection)
        session.put(QUEUE.insert, (*row, None, False, None, None, None, 1, 1, None, None))
        session.flush()
    holding = Holding(tables())
    chosen = [holding.reading(f"m{number}", locked=True) for number in range(3)]
    with psycopg.connect(server.url(name)) as other, ThreadPoolExecutor(1) as pool:
        other.execute("UPDATE queue_messages SET lease_token = 'new' WHERE message_id = 'm1'")
        reading = pool.submit(session_on(connection)._read_all, chosen)
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while server.execute(waits) != [(1,)]:
            assert not reading.done()
        other.commit()
        assert [list(map(tuple, rows)) for rows in reading.result()] == [
            [("t0",)],
            [("new",)],
            [("t2",)],
        ]


# --- whole batches -----------------------------------------------------------------------------


async def test_a_bad_value_fails_its_own_write_only(make_world: MakeWorld) -> None:
    """In one lane, so that all are one batch."""
    world = make_world(pool_size=1)
    for number in range(8):
        await create_run(world, f"wrun_{number}")

    async def create(number: int) -> str | None:
        name = {3: "a\0b", 5: "\ud800"}.get(number, "s")
        created = event("step_created", "s", stepName=name, input=1)
        try:
            await world.events.create(f"wrun_{number}", created)
        except WorldError as error:
            return type(error).__name__
        return None

    said = await asyncio.gather(*map(create, range(8)))
    bad = "InvalidRequestError"
    assert said == [None, None, None, bad, None, bad, None, None]
    for number in range(8):
        steps = (await world.steps.list(f"wrun_{number}")).data
        assert len(steps) == (said[number] is None)


async def test_one_step_written_several_times_in_a_batch(make_world: MakeWorld) -> None:
    world = make_world(pool_size=1)
    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", event("run_started"))
    kinds = ("step_created", "step_started", "step_completed")
    data = {"step_created": {"stepName": "s", "input": 1}, "step_completed": {"result": 2}}
    await asyncio.gather(
        *(
            world.events.create("wrun_1", event(kind, step_id, **data.get(kind, {})))
            for step_id in STEP_IDS
            for kind in kinds
        )
    )
    assert await log_of(world, "wrun_1") == [
        ("run_created", None),
        ("run_started", None),
        *((kind, step_id) for step_id in STEP_IDS for kind in kinds),
    ]
    for step_id in STEP_IDS:
        step = await world.steps.get("wrun_1", step_id)
        assert (step.status, step.output, step.attempt) == ("completed", 2, 1)


async def test_inserts_that_come_second_are_found_out(make_world: MakeWorld) -> None:
    """Two handles with connections of their own store what may be there once."""
    worlds = [make_world(pool_size=size) for size in (1, 2, 3)]
    for one in worlds:
        await one.backend.open()
    for number in range(10):
        run_id = f"wrun_{number}"
        ids = await asyncio.gather(
            *(world.queue("__wkf_workflow_greet", {"runId": run_id}) for world in worlds)
        )
        assert len({*ids}) == 1
        ends = await asyncio.gather(
            *(create_run(world, run_id) for world in worlds), return_exceptions=True
        )
        assert sum(end is None for end in ends) == 1, ends


async def test_a_failed_batch_leaves_its_connection_as_it_was(make_world: MakeWorld) -> None:
    """What the server never prepared, because something before it had failed, is prepared later."""
    world = make_world(pool_size=1)
    for number in range(9):
        run_id = f"wrun_{number}"
        await create_run(world, run_id)
        bad = event("step_created", "b", stepName="s" * number + "\0", input=1)
        hook = event("hook_created", "h", token=f"t{number}")
        good = event("step_created", "a", stepName="s", input=1)
        ends = await asyncio.gather(
            world.events.create(run_id, good),
            world.events.create(run_id, bad),
            world.events.create(run_id, hook),
            world.queue("__wkf_workflow_greet", {"runId": run_id}, idempotency_key="\0"),
            return_exceptions=True,
        )
        assert [isinstance(end, WorldError) for end in ends] == [False, True, False, True], ends


def test_a_claim_reads_in_the_order_of_an_index(connection: Connection) -> None:
    """However wrong the statistics are: they are those of an empty table."""
    connection.execute("ANALYZE queue_messages")
    rows = "SELECT 'm' || i, '__wkf_step_s', '', 'pending', 1, 3, 0, i, false, 1, 1"
    columns = (
        "message_id, queue_name, payload, status, attempt, max_attempts, deliveries, available_at,"
        " is_wake_up, created_at, updated_at"
    )
    into = f"INSERT INTO queue_messages ({columns}) {rows} FROM generate_series(1, 3000) i"
    connection.execute(into.encode())
    statement = QUEUE.ready("pending", serialize=True, prefixes=("__wkf_step_",))
    sql, values, _ = SETS.one(statement, {"now": 10_000, "row_limit": 20})
    session = session_on(connection)
    with connection.transaction():
        found = session.all(statement, now=10_000, row_limit=20)
        assert [row[8] for row in found] == [*range(1, 21)]
        _, explained, _ = session._answers([IN_ORDER, (b"EXPLAIN " + sql, values, False), AS_EVER])
        plan = [row[0] for row in explained.rows]
    assert any("Index Scan using ix_queue_claim" in line for line in plan), plan
    assert not any("Sort" in line for line in plan), plan
    assert connection.execute("SHOW enable_sort").fetchall() == [("on",)]
