"""A process dies at each statement of the first migration; the next World finds or makes all."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from servers import postgres
from servers.children import ChildProcess
from servers.engines import ENGINES, Running
from servers.sqld import Sqld

from workflow_world import create_world
from workflow_world.sql import migrate, open_database
from workflow_world.sql.tables import tables

from .helpers import VERSION

AT_MOST = 1000 if os.environ.get("CHAOS_LONG") else 8

Dying = Callable[[str, int], str]


@pytest.fixture
def dying() -> Iterator[Dying]:
    """Upgrades a database, and dies at the statement of a number."""
    child = ChildProcess(Path(__file__).with_name("dying.py"))

    def ask(url: str, number: int) -> str:
        assert child.process.stdin is not None
        child.process.stdin.write(f"{number} {url}\n")
        child.process.stdin.flush()
        return child.line()

    yield ask
    child.kill()


@contextmanager
def empty(engine: str, folder: Path) -> Generator[tuple[str, Callable[[], None]]]:
    """The URL of a database without tables, and what ends all that a dead process left there."""
    folder.mkdir()
    if engine == "sqlite":
        yield f"file:{folder / 'w.db'}", lambda: None
    elif engine == "postgres":
        with postgres.running() as server:
            name = server.create()
            try:
                yield server.url(name), lambda: None
            finally:
                server.drop(name)
    else:
        with Sqld(folder) as sqld:

            def restart() -> None:
                sqld.kill()
                sqld.start()

            yield sqld.url, restart


def differences(url: str) -> object:
    """Between the tables that are there and those that we want."""
    engine = open_database(url, environ={}).engine
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION})
            return compare_metadata(context, tables("").metadata)
    finally:
        engine.dispose()


@pytest.mark.anyio
@pytest.mark.parametrize("engine", ENGINES)
async def test_whoever_comes_after_a_dead_migration_completes_it(
    engine: str, engines: Running, dying: Dying, tmp_path: Path, seed: int
) -> None:
    if engine == "postgres":
        engines(engine)  # its server goes on running
    with empty(engine, tmp_path / "whole") as (url, _):
        word, count = dying(url, 1_000_000).split()
        assert word == "done"
    numbers = [*range(1, int(count) + 1)]
    random.Random(seed).shuffle(numbers)  # noqa: S311
    for number in numbers[:AT_MOST]:
        with empty(engine, tmp_path / str(number)) as (url, bury):
            assert dying(url, number) == "died"
            bury()
            world = create_world(url)
            await world.runs.create(workflow_name="w", run_id="wrun_1")
            await world.close()
            migrate.check(url, environ={})
            assert differences(url) == []
