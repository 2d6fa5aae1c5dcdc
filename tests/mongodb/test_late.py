"""A writer that was stopped in the middle of its own entry, and goes on much later."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from workflow_world import World, faults
from workflow_world.core.delivery import Done, Limits, settle
from workflow_world.mongodb.journal import Entry

from .conftest import MakeWorld
from .helpers import PATIENCE_S, QUEUE, Stored, create_run, database_of, event

TOKEN = "t"  # noqa: S105

pytestmark = pytest.mark.anyio


class Recorder:
    """What a World applies to its documents, to be applied once more."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._journal = database_of(world).journal
        self._finish = self._journal._finish  # pyright: ignore[reportPrivateUsage]
        self.entries: list[Entry] = []

        def saw(_: object, entry: Entry) -> None:
            self.entries.append(entry)
            self._finish(entry)

        monkeypatch.setattr(type(self._journal), "_finish", saw)

    def again(self) -> None:
        for entry in list(self.entries):
            self._finish(entry)


async def test_an_entry_that_is_applied_again_late_changes_nothing(
    world: World, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have changed, ended, given away and deleted what it wrote."""
    recorder = Recorder(world, monkeypatch)
    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", event("run_started"))
    await world.events.create("wrun_1", event("step_created", "s", stepName="s", input=1))
    await world.events.create("wrun_1", event("step_started", "s"))
    await world.events.create("wrun_1", event("step_completed", "s", result=1))
    await world.events.create("wrun_1", event("hook_created", "h", token=TOKEN))
    await world.events.create("wrun_1", event("wait_created", "w", resumeAt="2090-01-01T00:00:00Z"))
    await world.streams.write("wrun_1", "out", b"x")
    await world.streams.close("wrun_1", "out")
    for _ in range(2):
        message_id = await world.queue(QUEUE, {"runId": "wrun_1"}, idempotency_key="k")
        messages = world.backend.messages
        claim = await messages.claim(
            limit=1, lease=timedelta(hours=1), serialize_runs=True, prefixes=None
        )
        (message,) = claim.messages
        done = settle(message, Done(), now=message.updated_at, spread=0, limits=Limits())
        assert await messages.settle([(done, None)]) == [True]
        assert await messages.delete(message_id)
    await world.events.create("wrun_1", event("run_completed", output=1))
    await create_run(world, "wrun_2")
    await world.events.create("wrun_2", event("hook_created", "h", token=TOKEN))
    before = stored.everything(), stored.journal
    assert len(recorder.entries) > 15
    recorder.again()
    recorder.entries.reverse()
    recorder.again()
    assert (stored.everything(), stored.journal) == before


@pytest.mark.parametrize("point", ["after commit", "before hooks", "before runs", "before applied"])
async def test_a_writer_that_stands_still(
    world: World, make_world: MakeWorld, stored: Stored, point: str
) -> None:
    """Another one ends its entry and goes on, and does not wait for it."""
    await create_run(world, "wrun_1")
    await world.events.create("wrun_1", event("hook_created", "h", token=TOKEN))
    other = make_world()
    await other.backend.open()
    standing, go = threading.Event(), threading.Event()
    mine: list[int] = []

    def stop(name: str) -> None:
        if name == point and not mine:
            mine.append(threading.get_ident())
            standing.set()
            assert go.wait(PATIENCE_S)

    with faults.armed(stop):
        ending = asyncio.create_task(
            world.events.create("wrun_1", event("run_completed", output=1))
        )
        assert await asyncio.to_thread(standing.wait, PATIENCE_S)
        assert (await other.runs.get("wrun_1")).status == "completed"
        await create_run(other, "wrun_2")
        await other.events.create("wrun_2", event("hook_created", "h", token=TOKEN))
        before = stored.everything(), stored.journal
        go.set()
        result = await ending
    assert result.run is not None
    assert result.run.status == "completed"
    assert (stored.everything(), stored.journal) == before
    await create_run(world, "wrun_3")
    assert (await other.runs.get("wrun_3")).status == "pending"
