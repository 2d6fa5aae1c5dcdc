"""When the watcher looks: told of writings by the system, or by the time stamp of the file."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from workflow_world import World
from workflow_world.signals import QUEUE
from workflow_world.sql.sqlite import watch
from workflow_world.sql.sqlite.inotify import WatchedFile
from workflow_world.sql.sqlite.pace import Pace, Stamped, Told

from .conftest import Spawn
from .helpers import PATIENCE_S, line_of

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("x")
    return path


@pytest.fixture
def watched(file: Path) -> Iterator[WatchedFile]:
    watched = WatchedFile(str(file))
    assert watched.add()
    yield watched
    watched.close()


@linux
def test_writing_is_told_of_once(watched: WatchedFile, file: Path) -> None:
    assert not watched.wait(0)
    for text in ("a", "b"):
        with file.open("a") as writer:
            writer.write(text)
    assert watched.wait(PATIENCE_S)
    assert not watched.wait(0)


@linux
def test_a_wait_is_interrupted(watched: WatchedFile) -> None:
    waiting = threading.Thread(target=watched.wait, args=(PATIENCE_S,))
    waiting.start()
    watched.interrupt()
    waiting.join(PATIENCE_S / 2)
    assert not waiting.is_alive()


@linux
def test_a_file_that_takes_its_place_is_watched(watched: WatchedFile, file: Path) -> None:
    file.unlink()
    assert watched.wait(PATIENCE_S)
    assert not watched.added
    assert not watched.add(), "there is none"
    file.write_text("another")
    assert watched.add()
    while watched.wait(0):
        pass  # what was left of the first
    watched.add()
    with file.open("a") as writer:
        writer.write("more")
    assert watched.wait(PATIENCE_S)


@linux
def test_a_system_that_does_not_tell_is_found_out(file: Path) -> None:
    pace = Told(str(file))
    try:
        assert pace.wait()
        assert not pace.missed(), "the file was just added: what came before nobody could tell of"
        while not pace.missed():
            assert pace.wait()
        with file.open("a") as writer:
            writer.write("more")
        assert not pace.missed(), "it tells"
    finally:
        pace.close()


def _stamped(wal: str) -> Pace:
    return Stamped(wal)


def _deaf(wal: str) -> Pace:
    """Told of the writings to a file that nobody writes to."""
    other = Path(f"{wal}-other")
    other.touch()
    return Told(str(other))


@pytest.mark.anyio
@pytest.mark.parametrize("pace", [_stamped, pytest.param(_deaf, marks=linux)])
async def test_another_process_wakes_a_subscription_without_being_told_of(
    monkeypatch: pytest.MonkeyPatch, world: World, spawn: Spawn, url: str, pace: object
) -> None:
    monkeypatch.setattr(watch, "pace", pace)
    child = spawn("chunk", url, "wrun_1", "out")
    assert await line_of(child) == "ready"
    subscription = world.backend.notifier.subscribe(QUEUE)
    await world.runs.list()
    while await subscription.wait(3):
        pass  # long enough that the file counts as quiet
    waiting = asyncio.create_task(subscription.wait(None))
    child.go()
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting
    subscription.close()
