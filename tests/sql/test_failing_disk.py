"""Read-only places and full disks: typed errors, reads go on, and space that is back is used."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workflow_world import World
from workflow_world.errors import BackendError
from workflow_world.sql import migrate

from .conftest import MakeWorld, Spawn
from .helpers import Held, Trace, content, create_run, rows

pytestmark = pytest.mark.anyio

Freeze = Callable[[Path], None]


@pytest.fixture
def freeze() -> Iterator[Freeze]:
    """Make a file or folder read-only: by its mode, or for root by its immutable flag."""
    frozen: list[tuple[Path, int]] = []

    def mark(sign: str, path: Path) -> None:
        chattr = shutil.which("chattr")
        if chattr is None:
            pytest.skip("for root, a read-only folder needs chattr: install e2fsprogs")
        done = subprocess.run([chattr, f"{sign}i", str(path)], capture_output=True, check=False)
        if done.returncode != 0 and sign == "+":
            pytest.skip("this file system has no immutable flag")

    def make(path: Path) -> None:
        mode = path.stat().st_mode
        if os.geteuid() == 0:
            mark("+", path)
        else:
            path.chmod(mode & ~0o222)
        frozen.append((path, mode))

    yield make
    for path, mode in reversed(frozen):
        if os.geteuid() == 0:
            mark("-", path)
        else:
            path.chmod(mode)


async def refused(world: World) -> str:
    with pytest.raises(BackendError) as caught:
        await create_run(world, "wrun_1")
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_new_file_in_a_read_only_folder(
    make_world: MakeWorld, path: Path, freeze: Freeze
) -> None:
    freeze(path.parent)
    text = await refused(make_world())
    assert str(path) in text
    assert "cannot be opened" in text
    assert content(path.parent) == {}


async def test_a_database_in_a_read_only_folder(
    make_world: MakeWorld, url: str, path: Path, freeze: Freeze
) -> None:
    migrate.upgrade(url, environ={})
    before = content(path.parent)
    freeze(path)
    freeze(path.parent)
    world = make_world()
    text = await refused(world)
    assert "read-only" in text or "may be written to" in text, text
    await world.close()
    assert content(path.parent) == before


async def test_a_place_where_no_file_can_be(make_world: MakeWorld) -> None:
    assert "cannot be opened" in await refused(make_world("file:/proc/workflow.db"))


async def test_looking_at_the_version_in_a_read_only_folder(
    url: str, path: Path, freeze: Freeze
) -> None:
    """``db current`` and ``db check`` say so clearly when they cannot look."""
    migrate.upgrade(url, environ={})
    freeze(path)
    freeze(path.parent)
    try:
        found, text = migrate.current(url, environ={}), ""
    except BackendError as error:
        found, text = None, str(error)
    assert found == migrate.HEAD or ("SQLite: " in text and "\n" not in text)


# --- gone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_is_deleted_while_it_is_open(
    make_world: MakeWorld, path: Path, replaced: bool
) -> None:
    """SQLite itself would go on writing to a file that nobody can open any more."""
    world = make_world()
    await create_run(world, "wrun_0")
    kept = path.with_name("kept.db")
    path.rename(kept)  # noqa: ASYNC240
    if replaced:
        shutil.copyfile(kept, path)
    text = await refused(world)
    assert str(path) in text
    assert "deleted or replaced while it was open" in text
    # Put back, it is used again; and nothing of what was refused is in it.
    kept.replace(path)
    await create_run(world, "wrun_2")
    found = {run.run_id for run in (await world.runs.list()).data}
    assert found == {"wrun_0", "wrun_2"}
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


async def test_after_a_deletion_a_new_world_begins_anew(make_world: MakeWorld, path: Path) -> None:
    world = make_world()
    await create_run(world, "wrun_0")
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        name.unlink()
    await refused(world)
    await world.close()
    another = make_world()
    await create_run(another, "wrun_2")
    assert [run.run_id for run in (await another.runs.list()).data] == ["wrun_2"]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


# --- full ------------------------------------------------------------------------------------


def limit(trace: Trace, more_pages: int | None) -> None:
    """Let the database grow by so many pages only; None: without a limit."""
    for connection in trace.connections:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        allowed = 1 << 30 if more_pages is None else pages + more_pages
        connection.execute(f"PRAGMA max_page_count={allowed}")


async def test_a_full_disk(trace: Trace, world: World, path: Path) -> None:
    await create_run(world, "wrun_1")
    limit(trace, 8)
    for _ in range(2):
        with pytest.raises(BackendError, match=r"disk is full.*free some space") as caught:
            await world.streams.write("wrun_1", "big", b"x" * 1_000_000)
        assert "\n" not in str(caught.value)
    # Nothing of it was written, and reads go on.
    assert (await world.streams.get_info("wrun_1", "big")).tail_index == -1
    assert (await world.runs.get("wrun_1")).status == "pending"
    limit(trace, None)
    await world.streams.write("wrun_1", "big", b"x" * 1_000_000)
    await create_run(world, "wrun_2")
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_full_disk_in_the_middle_of_a_batch(trace: Trace, world: World, path: Path) -> None:
    """SQLite may roll the whole transaction back: then everyone hears why, and nobody gets half."""
    await create_run(world, "wrun_1")
    database = world.backend.database  # type: ignore[attr-defined]
    sizes = {"a": 1, "b": 1, "big": 1_000_000, "c": 1, "d": 1}
    limit(trace, 40)
    async with Held(database):
        writers = [
            asyncio.create_task(world.streams.write("wrun_1", name, b"x" * size))
            for name, size in sizes.items()
        ]
    results = dict(zip(sizes, await asyncio.gather(*writers, return_exceptions=True), strict=True))
    failed = {name: error for name, error in results.items() if isinstance(error, Exception)}
    assert "big" in failed
    for error in failed.values():
        assert isinstance(error, BackendError)
        assert "disk is full" in str(error)
    assert set(await world.streams.list("wrun_1")) == sizes.keys() - failed.keys()
    limit(trace, None)
    await world.streams.write("wrun_1", "big", b"x" * 1_000_000)
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


async def test_files_that_may_not_grow(spawn: Spawn, url: str, path: Path) -> None:
    lines = spawn("full", url).end().splitlines()
    assert lines[0].startswith("BackendError: SQLite: ")
    assert lines[1:] == ["first", "grown by 1"]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
