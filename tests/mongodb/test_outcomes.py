"""What became of a commit: lost answers, failovers between two requests, refusals afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, OperationFailure, WriteConcernError
from servers import mongodb

from workflow_world import faults
from workflow_world.backend import NewMessage
from workflow_world.errors import BackendError
from workflow_world.mongodb import MongoBackend, open_backend
from workflow_world.mongodb.journal import KEY, META, Entry, Journal
from workflow_world.mongodb.transaction import STAMP

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[mongodb.Server]:
    with mongodb.running() as found:
        yield found


@pytest.fixture
def url(server: mongodb.Server) -> Iterator[str]:
    with server.database() as found:
        yield found


@pytest.fixture
async def backend(url: str) -> AsyncIterator[MongoBackend]:
    made = open_backend(url, environ={}, shared=False)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[MongoBackend]:
    made = open_backend(url, environ={}, shared=False)
    await made.open()
    yield made
    await made.close()


class Patched:
    """The database as the journal sees it, with one verb replaced."""

    def __init__(self, tables: Any, command: Callable[..., Any]) -> None:
        self._tables, self._command = tables, command

    def __getitem__(self, name: str) -> Any:
        return self._tables[name]

    def command(self, *args: Any, **about: Any) -> Any:
        return self._command(self._tables, *args, **about)


async def chunks(backend: MongoBackend) -> list[bytes]:
    found, _ = await backend.chunks.page("wrun_1", "out", start=0, limit=2000, max_bytes=None)
    return [one.data for one in found]


def raw(server: mongodb.Server, url: str, collection: str) -> Any:
    return server.collection(url.rpartition("/")[2].partition("?")[0], collection)


async def test_a_lost_answer_behind_many_others_is_not_known(
    backend: MongoBackend, other: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many have committed since that the journal does not say any more whether we have."""
    replace = Journal._replace

    def lost(journal: Journal, entry: Entry) -> bool:
        done = replace(journal, entry)
        if journal is backend.database.journal and entry.changes:
            monkeypatch.setattr(Journal, "_replace", replace)
            for number in range(200):
                asyncio.run(other.chunks.append("wrun_2", "out", [b"%d" % number]))
            raise AutoReconnect("connection closed")
        return done

    monkeypatch.setattr(Journal, "_replace", lost)
    with pytest.raises(BackendError) as caught:
        await backend.chunks.append("wrun_1", "out", [b"once"])
    assert caught.value.code == "UNKNOWN_OUTCOME"
    assert await chunks(other) == [b"once"]


@pytest.mark.parametrize("error", [AutoReconnect("gone"), WriteConcernError("undone", 11602)])
async def test_a_lost_answer_to_what_takes_its_place_is_no_driver_s_error(
    backend: MongoBackend, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    replace, told = Journal._replace, list[Entry]()

    def lost(journal: Journal, entry: Entry) -> bool:
        told.append(entry)
        if len(told) == 1:
            raise error
        done = replace(journal, entry)
        if len(told) == 2:
            raise error
        return done

    monkeypatch.setattr(Journal, "_replace", lost)
    await backend.chunks.append("wrun_1", "out", [b"once"])
    assert await chunks(backend) == [b"once"]


async def test_what_is_written_on_one_member_only_was_perhaps_written(
    backend: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary stepped down while it waited for the others."""
    replace, told = Journal._replace, list[Entry]()

    def undecided(journal: Journal, entry: Entry) -> bool:
        told.append(entry)
        done = replace(journal, entry)
        if len(told) == 1:
            raise WriteConcernError("operation was interrupted", 11602)
        return done

    monkeypatch.setattr(Journal, "_replace", undecided)
    await backend.chunks.append("wrun_1", "out", [b"once"])
    assert await chunks(backend) == [b"once"]


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": 1, "n": 1, "writeConcernError": {"code": 11602, "errmsg": "interrupted"}},
        {"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 10107, "errmsg": "not primary"}]},
    ],
)
async def test_an_entry_is_not_marked_before_most_members_have_its_changes(
    backend: MongoBackend, other: MongoBackend, answer: dict[str, Any]
) -> None:
    """The first is undone by the failover that it tells of, and the second never was."""
    journal = backend.database.journal
    tables = journal.tables

    def command(*_: Any, **__: Any) -> Any:
        return answer

    journal.tables = Patched(tables, command)  # type: ignore[assignment]
    await backend.chunks.append("wrun_1", "out", [b"once"])
    marked = tables[META].find_one({"_id": KEY})
    assert marked is not None
    assert marked["applied"] == marked["number"] - 1
    assert await chunks(other) == [b"once"]


async def test_a_refusal_after_the_commit_does_not_repeat_it(
    backend: MongoBackend, other: MongoBackend
) -> None:
    """All that waited together is committed, so it is not tried one by one."""
    journal, told = backend.database.journal, list[object]()

    def command(tables: Any, *args: Any, **about: Any) -> Any:
        told.append(about)
        if len(told) == 1:
            raise OperationFailure("operation was interrupted", 11601)
        return tables.command(*args, **about)

    journal.tables = Patched(journal.tables, command)  # type: ignore[assignment]
    appended = (backend.chunks.append("wrun_1", "out", [b"%d" % one]) for one in range(8))
    assert sorted(await asyncio.gather(*appended)) == [*range(8)]
    assert sorted(await chunks(other)) == [b"%d" % one for one in range(8)]


class _Crash(BaseException):
    pass


async def test_an_entry_that_a_failover_undid_is_not_applied(
    backend: MongoBackend, url: str, server: mongodb.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader found it on the old primary, and its next request reaches the new one."""
    meta = raw(server, url, META)
    before = meta.find_one({"_id": KEY})

    def crash(name: str) -> None:
        if name == "after commit":
            raise _Crash

    with faults.armed(crash), pytest.raises(_Crash):
        await backend.chunks.append("wrun_1", "out", [b"undone"])
    look, told = Journal.look, list[Entry]()

    def looking(journal: Journal) -> Entry:
        found = look(journal)
        if not told:
            meta.replace_one({"_id": KEY}, before)
        told.append(found)
        return found

    monkeypatch.setattr(Journal, "look", looking)
    assert await chunks(backend) == []
    assert raw(server, url, "stream_chunks").count_documents({STAMP: {"$exists": True}}) == 0
    await backend.chunks.append("wrun_1", "out", [b"kept"])
    assert await chunks(backend) == [b"kept"]


async def test_a_run_s_message_is_claimed_at_once_beside_another_run_s(
    backend: MongoBackend,
) -> None:
    """Both wait together, so each sees what the other has taken."""

    def message(number: int) -> NewMessage:
        return NewMessage(
            message_id=f"msg_{number}",
            queue_name="__wkf_workflow_w",
            payload=b"",
            max_attempts=3,
            run_id=f"wrun_{number}",
        )

    found = await asyncio.gather(
        *(
            backend.messages.enqueue_and_claim(
                message(number), lease=timedelta(seconds=30), serialize_runs=True
            )
            for number in range(8)
        )
    )
    assert [one.claimed is not None for one in found] == [True] * 8


async def test_a_queue_s_name_may_go_on_with_the_last_of_all_characters(
    backend: MongoBackend,
) -> None:
    name = "__wkf_workflow_\U0010ffffx"
    await backend.messages.enqueue(
        NewMessage(message_id="msg_1", queue_name=name, payload=b"", max_attempts=3)
    )
    for prefix in ("__wkf_workflow_", "__wkf_workflow_\U0010ffff"):
        claim = await backend.messages.claim(
            limit=1,
            lease=timedelta(milliseconds=1),
            serialize_runs=False,
            prefixes=[prefix],
        )
        assert [one.queue_name for one in claim.messages] == [name]
        await asyncio.sleep(0.01)
