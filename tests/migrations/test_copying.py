"""One database's whole content in another: from a file to Postgres and to libSQL, and back."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from check.stores import BUSY, Store, beginning, make
from click.testing import CliRunner
from servers.engines import Running

from workflow_world import BackendError, ConfigurationError, SchemaError, World, create_world
from workflow_world.check import check
from workflow_world.cli.app import app
from workflow_world.sql.copying import Place, copy
from workflow_world.sql.migrate import TABLE_NAMES

LARGE, MANY = 3 << 20, 1_100
"""Of a chunk; how many chunks a stream has: of both several pages are made."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("store") / "w.db"
    store = asyncio.run(make(f"file:{path}", path, beginning()))

    async def add_streams() -> None:
        async with closed_after(store.world()) as world:
            for letter in (b"a", b"b", b"c", b"d"):
                await world.streams.write(BUSY, "large", letter * LARGE)
            await world.streams.write_multi(BUSY, "many", [b"%d" % n for n in range(MANY)])

    asyncio.run(add_streams())
    return store


@asynccontextmanager
async def closed_after(world: World) -> AsyncIterator[World]:
    try:
        yield world
    finally:
        await world.close()


def place(url: str, **options: Any) -> Place:
    return Place(url=url, options=options)


def copied(source: str, target: str, **options: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    copy(place(source), place(target, **options), counts.__setitem__)
    return counts


def content(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as connection:
        return {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall()  # noqa: S608
            for name in TABLE_NAMES
        }


async def report(url: str, **options: Any) -> Any:
    async with closed_after(create_world(url, auto_migrate=False, **options)) as world:
        return await check(world)


@pytest.mark.parametrize("engine", ["postgres", "libsql"])
def test_there_and_back(store: Store, engine: str, engines: Running, tmp_path: Path) -> None:
    before = content(store.path)
    back = tmp_path / "back.db"
    with engines(engine).database() as url:
        counts = copied(store.url, url)
        assert counts == {name: len(rows) for name, rows in before.items()}
        assert all(counts.values())
        moved = asyncio.run(report(url))
        assert moved.findings == asyncio.run(report(store.url)).findings
        assert copied(url, f"file:{back}") == counts
    assert content(back) == before


def test_other_names(store: Store, tmp_path: Path) -> None:
    target = f"file:{tmp_path / 'w.db'}"
    counts = copied(store.url, target, table_prefix="x_")
    assert {*counts} == {f"x_{name}" for name in TABLE_NAMES}
    assert asyncio.run(report(target, table_prefix="x_")).seen == (
        asyncio.run(report(store.url)).seen
    )


def test_a_target_with_rows_is_left_alone(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "w.db"
    asyncio.run(make(f"file:{target}", target, beginning()))
    before = content(target)
    with pytest.raises(ConfigurationError, match="workflow_runs has rows: nothing was copied"):
        copied(store.url, f"file:{target}")
    assert content(target) == before
    asyncio.run(report(f"file:{target}"))


def test_a_source_with_a_worker_is_refused(store: Store, tmp_path: Path) -> None:
    source, target = tmp_path / "source.db", tmp_path / "w.db"
    copied(store.url, f"file:{source}")
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute(
            "UPDATE queue_messages SET status = 'processing', lease_token = 'x',"
            " leased_until = 32503680000000 WHERE status = 'pending'"
        )
    with pytest.raises(BackendError, match="messages in delivery: stop all workers"):
        copied(f"file:{source}", f"file:{target}")
    assert not target.exists()


def test_a_source_that_is_written_to_meanwhile(store: Store, tmp_path: Path) -> None:
    source, target = tmp_path / "source.db", f"file:{tmp_path / 'w.db'}"
    copied(store.url, f"file:{source}")

    def write(table: str, _count: int) -> None:
        with closing(sqlite3.connect(source)) as connection, connection:
            connection.execute(
                "INSERT INTO stream_chunks VALUES ('wrun_x', 'late', 0, 'c', x'01', 0, 1)"
                " ON CONFLICT DO NOTHING"
            )

    with pytest.raises(BackendError, match="written to while it was copied"):
        copy(place(f"file:{source}"), place(target), write)
    with pytest.raises(SchemaError, match="a copy was cut off"):
        asyncio.run(report(target))


def test_a_row_that_cannot_be_stored_is_named(
    store: Store, engines: Running, tmp_path: Path
) -> None:
    """And nobody works with what was copied before it."""
    source = tmp_path / "source.db"
    copied(store.url, f"file:{source}")
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("UPDATE queue_messages SET queue_name = 'a' || char(0) || 'b'")
    with engines("postgres").database() as url:
        with pytest.raises(BackendError, match=r"A row of queue_messages .*'msg_\w+'.*NUL"):
            copied(f"file:{source}", url)
        with pytest.raises(SchemaError, match="a copy was cut off"):
            asyncio.run(report(url))


def test_the_command(store: Store, tmp_path: Path) -> None:
    target = f"file:{tmp_path / 'w.db'}"
    call = CliRunner()
    done = call.invoke(app, ["db", "copy", "--url", store.url, "--to", target])
    assert done.exit_code == 0, done.output
    assert "workflow_runs: 5 rows\n" in done.output
    assert f"{target} has all of {store.url} now" in done.output
    again = call.invoke(app, ["db", "copy", "--url", store.url, "--to", target])
    assert again.exit_code == 1
    assert "is not empty" in again.output
    nothing = call.invoke(app, ["db", "copy", "--url", f"file:{tmp_path}/no.db", "--to", target])
    assert nothing.exit_code == 1
    other = call.invoke(app, ["db", "copy", "--url", store.url, "--to", "memory:"])
    assert "is not a SQL database" in other.output


FLOW = """
from dataclasses import dataclass
from datetime import timedelta
from vercel.workflow import BaseHook, Workflows, sleep

workflows = Workflows()


@dataclass
class Answer(BaseHook):
    value: int


@workflows.step
async def double(number: int) -> int:
    return 2 * number


@workflows.workflow
async def asking(number: int) -> int:
    answer = await Answer.wait(token="the answer")
    return await double(answer.value)


@workflows.workflow
async def napping(number: int) -> int:
    first = await double(number)
    await sleep(timedelta(seconds=4))
    return await double(first)
"""

MAIN = """
import asyncio, json, sys
import workflow_world
world = workflow_world.install()
import flow
from vercel.workflow import get_run, start


async def kinds(run):
    return [one.event_type for one in (await world.events.list(run.run_id)).data]


async def begin():
    async with world:
        runs = [await start(flow.asking, 1), await start(flow.napping, 3)]
        for run, wanted in zip(runs, ("hook_created", "wait_created")):
            while wanted not in await kinds(run):
                await asyncio.sleep(0.05)
    return [run.run_id for run in runs]


async def go_on(*runs):
    async with world:
        await flow.Answer(value=21).resume("the answer")
        return [await get_run(run_id).return_value() for run_id in runs]

print(json.dumps(asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))))
"""


def test_runs_that_wait_go_on_in_postgres(engines: Running, tmp_path: Path) -> None:
    """One for a hook, and one for a time that has come when it is moved."""
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "main.py").write_text(MAIN)

    def run(url: str, *arguments: str) -> Any:
        done = subprocess.run(  # our own script
            [sys.executable, "main.py", *arguments],
            cwd=tmp_path,
            env={"WORKFLOW_DATABASE_URL": url, "PATH": ""},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout)

    file = f"file:{tmp_path / 'w.db'}"
    runs = run(file, "begin")
    with engines("postgres").database() as url:
        copied(file, url)
        assert run(url, "go_on", *runs) == [42, 12]
