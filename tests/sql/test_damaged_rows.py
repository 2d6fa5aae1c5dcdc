"""Rows that hold what nobody wrote there: each read says so by table and key, or is right.

Each column of each table is damaged in turn, in each way that its bytes can be: another type of
value, text that is not UTF-8, JSON and CBOR that are none, or of something else than a map.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary, Text

from workflow_world import BackendError, World, create_world
from workflow_world.backend import Retention
from workflow_world.sql.tables import Base

from .conftest import MakeWorld
from .helpers import QUEUE, raw, within_patience

pytestmark = pytest.mark.anyio

JSON = {"attributes", "headers", "last_error"}
MAPS = {"execution_context", "event_data"}
COLUMNS = [
    (table.name, column.name)
    for table in Base.metadata.sorted_tables
    for column in table.columns
    if column.name not in ("last_claim_at", "is_replaying")  # read by no entity
]
RUN, OTHER = "wrun_1", "wrun_2"


def damages(table: str, column: str) -> Iterator[str]:
    """SQL expressions of values that nobody would have stored in the column."""
    kind = Base.metadata.tables[table].columns[column].type
    if isinstance(kind, Text):
        yield from ("CAST(x'ff41' AS TEXT)", "x'4142'")
        if column in JSON:
            yield from ("'{'", "'[1]'", "'null and void'")
    elif isinstance(kind, LargeBinary):
        yield "'text'"
        if column not in ("data", "payload"):  # anybody's bytes
            yield "x'ff'"
            if column in MAPS:
                yield "x'01'"
    else:
        yield from ("'noon'", "x'00'", "1.5")


def reads(world: World) -> Mapping[str, Callable[[], Awaitable[Any]]]:
    """Every way to read, the worker's own included, which change nothing here."""
    backend = world.backend
    return {
        "get run": lambda: world.runs.get(RUN),
        "get runs": lambda: world.runs.get_many([RUN, OTHER]),
        "list runs": lambda: world.runs.list(),
        "list runs by attribute": lambda: world.runs.list(attributes={"a": "b"}),
        "list runs without payloads": lambda: world.runs.list(resolve_data="none"),
        "get step": lambda: world.steps.get(RUN, "step_1"),
        "list steps": lambda: world.steps.list(RUN),
        "get hook": lambda: world.hooks.get("hook_1"),
        "hook by token": lambda: world.hooks.get_by_token("token"),
        "list hooks": lambda: world.hooks.list(RUN),
        "list waits": lambda: world.waits.list(RUN),
        "list events": lambda: world.events.list(RUN),
        "list events backwards": lambda: world.events.list(RUN, sort_order="desc"),
        "events of a step": lambda: world.events.list_by_correlation_id("step_1"),
        "chunks": lambda: world.streams.get_chunks(RUN, "out"),
        "stream info": lambda: world.streams.get_info(RUN, "out"),
        "streams": lambda: world.streams.list(RUN),
        "list messages": lambda: world.messages.list(),
        "queue stats": world.messages.stats,
        "stranded": lambda: backend.runs.stranded(after=None, limit=10),
        "reap": backend.messages.reap,
        "prune": lambda: backend.messages.prune(_LONG, limit=10),
    }


_LONG = Retention(completed=timedelta(days=1), failed=timedelta(days=1))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a row in each table, and its neighbour."""
    path = tmp_path_factory.mktemp("sound") / "w.db"
    asyncio.run(fill(path))
    with raw(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute('UPDATE queue_messages SET last_error = \'{"message":"m"}\'')
    return path


async def fill(path: Path) -> None:
    world = create_world(f"file:{path}")
    await fill_world(world)
    await world.close()


async def fill_world(world: World) -> None:
    for run_id in (RUN, OTHER):
        suffix = "" if run_id == RUN else "_2"

        async def put(kind: str, key: str | None = None, run: str = run_id, **data: Any) -> None:
            event = {"eventType": kind, "correlationId": key, "eventData": data or None}
            await world.events.create(run, event)

        await put(
            "run_created",
            deploymentId="d",
            workflowName="w",
            input=[1],
            executionContext={"x": 1},
            attributes={"a": "b"},
        )
        await put("run_started")
        await put("step_created", "step_1", stepName="s", input=b"in")
        await put("step_started", "step_1")
        await put("hook_created", "hook_1", token="token" + suffix, metadata={"m": 1})
        await put("wait_created", "wait_1", resumeAt="2090-01-01T00:00:00Z")
        await world.streams.write_multi(run_id, "out", [b"one", b"two"])
        # Not due in this century: nothing that reads takes it away.
        await world.queue(QUEUE, {"runId": run_id}, delay_seconds=2e9, headers={"x-a": "b"})


@contextmanager
def damaged(path: Path, table: str, column: str, value: str) -> Iterator[None]:
    """The column of the table's first row, until the end."""
    with raw(path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute("PRAGMA foreign_keys = 0")
        connection.execute("PRAGMA synchronous = 0")
        ((row_id,),) = connection.execute(f"SELECT min(rowid) FROM {table}")  # noqa: S608
        connection.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table}")  # noqa: S608
        connection.execute(f"UPDATE {table} SET {column} = {value} WHERE rowid = {row_id}")  # noqa: S608
        yield
        connection.execute(f"DELETE FROM {table}")  # noqa: S608
        connection.execute(f"INSERT INTO {table} SELECT * FROM kept")  # noqa: S608
        connection.execute("DROP TABLE kept")


def parts(value: Any) -> Any:
    """An answer as what can be compared, and looked through for rows."""
    if is_dataclass(value):
        return {
            each.name: parts(getattr(value, each.name))
            for each in fields(value)
            if each.name != "cursor"
        }
    if isinstance(value, Mapping):
        return {key: parts(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [parts(each) for each in value]
    return value


def is_right(found: Any, wanted: Any) -> bool:
    """Equal, or without the damaged row: a list is a part of what it should be."""
    if found == wanted or found is None:
        return True
    if isinstance(found, dict) and isinstance(wanted, dict):
        return all(is_right(each, wanted.get(key)) for key, each in found.items())
    if isinstance(found, list) and isinstance(wanted, list):
        return all(any(is_right(each, one) for one in wanted) for each in found)
    return False


async def answers(world: World) -> dict[str, Any]:
    """What each way to read gives, or raises."""
    found: dict[str, Any] = {}
    for name, read in reads(world).items():
        try:
            found[name] = parts(await within_patience(read()))
        except Exception as error:  # which one is what the test is about
            found[name] = error
    return found


def is_wrong(name: str, found: Any, wanted: Any, table: str) -> bool:
    if isinstance(found, BackendError):
        return found.code != "CORRUPT" or table not in str(found)
    if isinstance(found, Exception):
        return getattr(found, "status", None) != 404  # looked for by what is damaged
    # What is counted and concluded is about the rows that are found.
    return name not in ("queue stats", "stranded") and not is_right(found, wanted)


@pytest.fixture(scope="module")
def wanted(sound: Path) -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        world = create_world(f"file:{sound}")
        try:
            return await answers(world)
        finally:
            await world.close()

    return asyncio.run(read())


@pytest.mark.parametrize(("table", "column"), COLUMNS)
async def test_a_damaged_column_is_named_or_does_no_harm(
    sound: Path,
    wanted: dict[str, Any],
    path: Path,
    make_world: MakeWorld,
    table: str,
    column: str,
) -> None:
    shutil.copyfile(sound, path)
    world = make_world()
    for value in damages(table, column):
        with damaged(path, table, column, value):
            found = await answers(world)
        wrong = {
            name: found[name] for name in wanted if is_wrong(name, found[name], wanted[name], table)
        }
        assert not wrong, value
    assert await answers(world) == wanted, "mended, it is as it was"
