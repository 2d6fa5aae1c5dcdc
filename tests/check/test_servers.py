"""The same on servers: what was damaged there is found, and mended."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import pytest
from robustness.helpers import LONG, sql_on
from servers.engines import Running
from sqlalchemy import (
    CheckConstraint,
    Connection,
    ForeignKeyConstraint,
    MetaData,
    Table,
    insert,
    select,
    text,
)

from workflow_world import World, create_world
from workflow_world.check import apply, check, plan_repairs
from workflow_world.sql import open_database
from workflow_world.sql.tables import tables
from workflow_world.testing import ManualClock

from .damages import DAMAGES, RUNS, Damage
from .stores import AGE, BUSY, ENDED, PENDING, STEPPING, beginning, fill, ms

pytestmark = pytest.mark.anyio

WANTED: Final = [
    ("run-differs", BUSY),
    ("step-differs", BUSY),
    ("step-missing", ENDED),
    ("hook-missing", BUSY),
    ("hook-of-ended-run", ENDED),
    ("run-stuck", STEPPING),
    ("wait-due", BUSY),
    ("lease-expired", PENDING),
]


@pytest.mark.parametrize("engine", ["postgres", "libsql"])
async def test_damages_are_found_and_mended(engine: str, engines: Running) -> None:
    start = beginning()
    with engines(engine).database() as url:
        clock = ManualClock(start)
        filling = create_world(url, clock=clock)
        await fill(filling, clock)
        await filling.close()
        world = create_world(url, clock=ManualClock(start + AGE))
        try:
            assert (await check(world)).clean
            values = {**RUNS, "past": ms(start + timedelta(minutes=30))}
            with sql_on(url) as connection:
                for wanted in WANTED:
                    one = next(
                        one for one in DAMAGES if one.repaired and (one.kind, one.run) == wanted
                    )
                    for sql in one.sql:
                        needed = {name: values[name] for name in values if f":{name}" in sql}
                        connection.execute(text(sql), needed)
            report = await check(world)
            assert Counter(one.kind for one in report.findings) == Counter(
                kind for kind, _ in WANTED
            )
            plan = plan_repairs(report)
            assert plan.left == ()
            outcomes = await apply(world, plan)
            assert all(one.done for one in outcomes), outcomes
            assert (await check(world)).clean
        finally:
            await world.close()


IMPOSSIBLE: Final = {
    "postgres": re.compile(r"'noon'|CAST\(x'ff' AS TEXT\)|data = 'text'|stream_name = x'ff'"),
    "libsql": re.compile(r"CAST\(x'ff' AS TEXT\)"),
}
"""Values of another type; text that is not UTF-8, which a libSQL server cannot answer with."""
Rows: TypeAlias = dict[str, list[dict[str, Any]]]
SPELLED: Final = (
    (r"x'ff'", "decode('ff', 'hex')"),
    (r"printf\('%026d', (.*?\))\)", r"lpad(CAST(\1 AS text), 26, '0')"),
    (r"is_webhook = 1", "is_webhook = true"),
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["postgres", "libsql"])
async def test_each_damage_has_its_finding_and_its_repair(
    engine: str, engines: Running, seed: int
) -> None:
    """Every damage that can be repaired, and a third of the others, or all of those that the server
    can hold and give back."""
    start, tried, chance = beginning(), Counter[str](), random.Random(seed)  # noqa: S311
    possible = [
        one for one in DAMAGES if not any(IMPOSSIBLE[engine].search(sql) for sql in one.sql)
    ]
    wanted = [one for one in possible if LONG or one.repaired or chance.random() < 1 / 3]
    with engines(engine).database() as url:
        lenient = without_constraints(url)
        async with opened(url, start) as world:
            assert isinstance(world.clock, ManualClock)
            await fill(world, world.clock)
        sound, past = stored(url, lenient), ms(start + timedelta(minutes=30))
        database = open_database(url, environ={}).engine
        try:
            with database.connect() as connection:
                for one in wanted:
                    with connection.begin():
                        hurt(connection, engine, lenient, sound, one, past)
                    await one_finding(url, start + AGE, one)
                    tried[one.kind] += 1
        finally:
            database.dispose()
    assert tried.total() == len(wanted)
    print(f"{tried.total()} of {len(DAMAGES)} damages")  # noqa: T201


@asynccontextmanager
async def opened(url: str, now: datetime) -> AsyncIterator[World]:
    """A World with empty caches."""
    world = create_world(url, clock=ManualClock(now))
    try:
        yield world
    finally:
        await world.close()


def without_constraints(url: str) -> list[Table]:
    """The tables made anew, so that they take what no row of ours can be."""
    lenient = MetaData()
    for table in tables("").metadata.sorted_tables:
        copy = table.to_metadata(lenient)
        for one in [*copy.constraints]:
            if isinstance(one, CheckConstraint | ForeignKeyConstraint):
                copy.constraints.remove(one)
        for column in copy.columns:
            for key in [*column.foreign_keys]:
                column.foreign_keys.remove(key)
    with sql_on(url) as connection:
        lenient.drop_all(connection)
        lenient.create_all(connection)
    return lenient.sorted_tables


def stored(url: str, lenient: list[Table]) -> Rows:
    with sql_on(url) as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in lenient
        }


def hurt(
    connection: Connection, engine: str, lenient: list[Table], sound: Rows, one: Damage, past: int
) -> None:
    """All as it was, and then the damage."""
    for table in lenient:
        connection.execute(table.delete())
        connection.execute(insert(table), sound[table.name])
    values = {**RUNS, "past": past, **one.values}
    for sql in one.sql:
        if engine == "postgres":
            for pattern, spelled in SPELLED:
                sql = re.sub(pattern, spelled, sql)
        needed = {name: values[name] for name in values if f":{name}" in sql}
        connection.execute(text(sql), needed)


async def one_finding(url: str, now: datetime, one: Damage) -> None:
    async with opened(url, now) as world:
        report = await check(world)
        assert [found.kind for found in report.findings] == [one.kind], report.findings
        (found,) = report.findings
        assert found.run_id == one.run
        assert one.subject in ("*", found.subject)
        plan = plan_repairs(report)
        assert len(plan.repairs) == one.repaired, one
        assert len(plan.left) == (not one.repaired), one
        if one.repaired:
            outcomes = await apply(world, plan)
            assert all(each.done for each in outcomes), outcomes
            assert (await check(world)).clean, one
