"""What may be in the database already: of another release, of another application, or damaged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from workflow_world import BackendError
from workflow_world.errors import SchemaError
from workflow_world.mongodb import schema

from .conftest import MakeWorld, Spawn
from .helpers import Stored, create_run, database_of

pytestmark = pytest.mark.anyio

PROCESSES = 8
THEIRS = {
    "runs": {"_id": "wrun_1", "runId": "wrun_1", "deploymentId": "d", "workflowName": "w"},
    "events": {"_id": "evnt_1", "eventId": "evnt_1", "runId": "wrun_1", "eventType": "x"},
}
"""Documents of the TypeScript world's."""


async def test_a_newer_version(make_world: MakeWorld, stored: Stored) -> None:
    world = make_world()
    await create_run(world, "wrun_1")
    stored["meta"].update_one({"_id": "schema"}, {"$set": {"version": 2}})
    before = stored.everything(), stored.journal
    for auto_migrate in (True, False):
        with pytest.raises(SchemaError, match="version 2, and this release reads version 1"):
            await create_run(make_world(auto_migrate=auto_migrate), "wrun_2")
    assert (stored.everything(), stored.journal) == before


@pytest.mark.parametrize("auto_migrate", [True, False])
@pytest.mark.parametrize("collection", [*THEIRS])
async def test_another_application(
    make_world: MakeWorld, stored: Stored, collection: str, auto_migrate: bool
) -> None:
    stored[collection].insert_one(THEIRS[collection])
    with pytest.raises(SchemaError, match=f"collections {collection} of another application"):
        await create_run(make_world(auto_migrate=auto_migrate), "wrun_2")
    assert [*stored[collection].find({})] == [THEIRS[collection]]
    assert stored["meta"].find_one({}) is None
    assert len([*stored[collection].list_indexes()]) == 1


async def test_an_empty_one_without_auto_migrate(make_world: MakeWorld, stored: Stored) -> None:
    with pytest.raises(SchemaError, match="has not been set up"):
        await create_run(make_world(auto_migrate=False), "wrun_1")
    assert stored["meta"].find_one({}) is None
    await create_run(make_world(), "wrun_1")
    assert len((await make_world(auto_migrate=False).runs.list()).data) == 1


async def test_eight_processes_open_an_empty_database_at_once(spawn: Spawn, url: str) -> None:
    children = [spawn("open_first", url) for _ in range(PROCESSES)]
    for child in children:
        assert await asyncio.to_thread(child.line) == "ready"
    for child in children:
        child.go()
    counts = [int((await asyncio.to_thread(child.end))[-1]) for child in children]
    assert max(counts) == PROCESSES


async def test_whoever_is_set_up_meanwhile_is_no_stranger(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process sets the database up, and uses it, between two looks of this one."""
    other, late = make_world(), make_world()
    tables = database_of(late).tables
    names = tables.list_collection_names

    def set_up_meanwhile() -> list[str]:
        asyncio.run(create_run(other, "wrun_1"))
        return names()

    monkeypatch.setattr(tables, "list_collection_names", set_up_meanwhile)
    assert await asyncio.to_thread(schema._check, tables) == 1  # pyright: ignore[reportPrivateUsage]
    assert len((await late.runs.list()).data) == 1


@pytest.mark.parametrize("auto_migrate", [True, False])
async def test_a_journal_that_is_missing_is_never_begun_anew(
    make_world: MakeWorld, stored: Stored, auto_migrate: bool
) -> None:
    """What a new one counts from zero would be taken for older than what is there."""
    world = make_world()
    await create_run(world, "wrun_1")
    stored["meta"].delete_one({"_id": "journal"})
    before = stored.everything()
    for one in (world, make_world(auto_migrate=auto_migrate)):
        for call in (one.runs.get("wrun_1"), create_run(one, "wrun_2")):
            with pytest.raises(BackendError, match=r"The journal, .* is missing") as caught:
                await call
            assert caught.value.code == "CORRUPT"
    assert stored.everything() == before


@pytest.mark.parametrize(
    "change",
    [
        {"$unset": {"number": ""}},
        {"$unset": {"applied": ""}},
        {"$set": {"number": "many"}},
        {"$set": {"number": None}},
        {"$set": {"number": 0}},
        {"$set": {"applied": "all"}},
        {"$set": {"number": 99, "changes": "none"}},
        {"$set": {"number": 99, "changes": [1]}},
        {"$set": {"number": 99, "changes": [{"c": "runs"}]}},
        {"$set": {"number": 99, "parts": "two"}},
        {"$set": {"number": 99, "token": 1}},
        {"$set": {"number": 99, "tokens": 1}},
        {"$set": {"number": 99, "at": "noon"}},
    ],
)
async def test_a_damaged_journal_is_one_clear_error(
    make_world: MakeWorld, stored: Stored, change: dict[str, Any]
) -> None:
    world = make_world()
    await create_run(world, "wrun_1")
    stored["meta"].update_one({"_id": "journal"}, change)
    before = stored.everything()
    fresh = make_world()
    for call in (fresh.runs.get("wrun_1"), create_run(fresh, "wrun_2"), world.runs.get("wrun_1")):
        with pytest.raises(BackendError, match=r"The journal, .* is damaged") as caught:
            await call
        assert caught.value.code == "CORRUPT"
    assert stored.everything() == before


async def test_a_part_that_is_missing(make_world: MakeWorld, stored: Stored) -> None:
    """Of an entry that is still the last, and not applied: nobody else can have applied it."""
    world = make_world()
    await create_run(world, "wrun_1")
    number = stored.journal["number"] + 1
    stored["meta"].update_one(
        {"_id": "journal"}, {"$set": {"number": number, "parts": 2, "token": "lost"}}
    )
    with pytest.raises(BackendError, match=r"The journal, .* is damaged") as caught:
        await world.runs.get("wrun_1")
    assert caught.value.code == "CORRUPT"
    assert stored.journal["applied"] < number
