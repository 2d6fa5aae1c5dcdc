"""Hostile text as every id and name: stored and read back as it is, or refused with a typed error;
and nothing else in the database is another than before."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from servers.engines import ENGINES, Running
from sqlalchemy import Connection, inspect, text

from workflow_world import World, create_world
from workflow_world.sql import inspect_database
from workflow_world.testing.conformance.helpers import state_of

from .hostile import HOSTILE, PLACES, Hostile, create, look, typed

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
COST = {"sqlite": 1, "postgres": 2, "libsql": 6}
EXAMPLES = 2_500 if LONG else 24
"""For each of eight places."""

TABLES = (
    "workflow_runs",
    "workflow_steps",
    "workflow_events",
    "workflow_hooks",
    "queue_messages",
    "stream_chunks",
)
COUNT = f"SELECT {', '.join(f'(SELECT count(*) FROM {name})' for name in TABLES)}"  # noqa: S608

pytestmark = pytest.mark.timeout(7200 if LONG else 600)


def rows(connection: Connection) -> Counter[str]:
    counts = connection.execute(text(COUNT)).one()
    connection.rollback()
    return Counter(dict(zip(TABLES, counts, strict=True)))


def schema(connection: Connection) -> Any:
    found = inspect(connection)
    names = sorted(found.get_table_names())
    tables = {
        name: [
            [str((one["name"], one["type"])) for one in found.get_columns(name)],
            sorted(str(one["name"]) for one in found.get_indexes(name)),
        ]
        for name in names
    }
    connection.rollback()
    return tables


async def bystander(world: World) -> None:
    """A run that has one of everything, and is not to change."""
    run_id = "wrun_bystander"
    await create(world, run_id, attributes={"k": "v"})
    for kind, key, data in (
        ("run_started", None, None),
        ("step_created", "step", {"stepName": "s", "input": b""}),
        ("hook_created", "hook", {"token": "token"}),
        ("wait_created", "wait", {"resumeAt": "2090-01-01T00:00:00Z"}),
    ):
        await world.events.create(
            run_id, {"eventType": kind, "correlationId": key, "eventData": data}
        )
    await world.queue("__wkf_workflow_w", {"runId": run_id}, delay_seconds=86_400)
    await world.streams.write(run_id, "out", b"chunk")


async def known(world: World) -> Any:
    return (
        await state_of(world, "wrun_bystander"),
        (await world.messages.list(run_id="wrun_bystander")).data,
        (await world.streams.get_chunks("wrun_bystander", "out")).data,
    )


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ENGINES)
def test_hostile_text_is_stored_as_it_is_or_refused(
    engines: Running, name: str, place: str
) -> None:
    numbers, outcomes = itertools.count(), Counter[str]()
    with (
        engines(name).database() as url,
        asyncio.Runner() as runner,
        inspect_database(url, environ={}) as connection,
    ):
        world = create_world(url)
        try:
            runner.run(bystander(world))
            before, tables = runner.run(known(world)), schema(connection)
            attempt = attempts(world, place, runner, lambda: rows(connection), numbers, outcomes)
            settings(
                max_examples=max(4, EXAMPLES // COST[name]),
                deadline=None,
                print_blob=True,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            )(given(HOSTILE)(attempt))()
            assert runner.run(known(world)) == before
            assert schema(connection) == tables
        finally:
            runner.run(world.close())
    print(f"{place} on {name}: {dict(outcomes)}")  # noqa: T201


def attempts(
    world: World,
    place: str,
    runner: asyncio.Runner,
    count: Callable[[], Counter[str]],
    numbers: Any,
    outcomes: Counter[str],
) -> Callable[[Hostile], None]:
    put, needs_run = PLACES[place]

    def attempt(hostile: Hostile) -> None:
        run_id = f"wrun_{next(numbers)}"
        if needs_run:
            runner.run(create(world, run_id))
        before = count()
        new = runner.run(typed(put(world, hostile.text, run_id)))
        outcomes["refused" if new is None else "stored"] += 1
        assert count() == before + Counter(new or {})
        runner.run(look(world, hostile.text))

    return attempt
