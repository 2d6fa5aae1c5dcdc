"""Embedded replicas: what is read from the file, and what can be wrong with it."""

from __future__ import annotations

import logging
import sqlite3
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from postgres.helpers import QUEUE, create_run, event, log_of
from servers.sqld import Signer, Sqld, empty_tables

from workflow_world import World, create_world
from workflow_world.errors import (
    BackendError,
    ConfigurationError,
    EntityConflictError,
    HookNotFoundError,
)
from workflow_world.hrana.transport import Transport

from .conftest import MakeWorld

if find_spec("libsql_experimental") is None:
    pytest.skip("the stock driver has no wheel here", allow_module_level=True)
pytestmark = pytest.mark.anyio


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The requests to the primary."""
    found: list[bytes] = []
    post = Transport.post

    def watched(self: Transport, base: str, body: bytes, *, timeout: float | None = None) -> object:
        found.append(body)
        return post(self, base, body, timeout=timeout)

    monkeypatch.setattr(Transport, "post", watched)
    return found


async def test_lists_come_from_the_file_and_know_all_that_was_committed(
    url: str, make_world: MakeWorld, tmp_path: Path, asked: list[bytes]
) -> None:
    near = make_world(f"file:{tmp_path / 'r.db'}", sync_url=url)
    far = make_world(url)
    await create_run(near, "wrun_1")
    await create_run(far, "wrun_2")
    await far.events.create("wrun_1", event("step_created", "s", stepName="s", input=bytes(99)))
    await near.queue(QUEUE, {"runId": "wrun_1"})
    asked.clear()
    assert len((await near.runs.list()).data) == 2
    assert [step.input for step in (await near.steps.list("wrun_1")).data] == [bytes(99)]
    assert await log_of(near, "wrun_1") == [("run_created", None), ("step_created", "s")]
    assert (await near.messages.stats()).counts
    assert asked == []
    assert (tmp_path / "r.db").stat().st_mode & 0o777 == 0o600


async def test_the_primary_answers_when_the_file_cannot(
    url: str, make_world: MakeWorld, tmp_path: Path, asked: list[bytes]
) -> None:
    """Text that the driver would cut at its NUL."""
    world = make_world(f"file:{tmp_path / 'r.db'}", sync_url=url)
    await create_run(world, "wrun_1")
    asked.clear()
    assert (await world.messages.list(queue_name="a\0b")).data == ()
    assert asked


async def test_a_token(
    guarded: Sqld,
    signer: Signer,
    make_world: MakeWorld,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    token = signer.token()
    empty_tables(guarded.url, token)
    world = make_world(f"file:{tmp_path / 'r.db'}", sync_url=guarded.url, auth_token=token)
    await create_run(world, "wrun_1")
    assert len((await world.runs.list()).data) == 1
    wrong = make_world(f"file:{tmp_path / 'w.db'}", sync_url=guarded.url, auth_token=token + "x")
    with pytest.raises(BackendError, match="refused the auth token"):
        await wrong.backend.open()
    shown = capfd.readouterr()
    assert shown.out == ""
    assert token not in caplog.text + shown.err


async def test_a_file_that_is_no_replica_is_left_alone(
    url: str, make_world: MakeWorld, tmp_path: Path
) -> None:
    path = tmp_path / "mine.db"
    with sqlite3.connect(path) as mine:
        mine.execute("CREATE TABLE t (x)")
    mine.close()
    before = path.read_bytes()
    with pytest.raises(BackendError, match="is no replica: it was left as it is"):
        await make_world(f"file:{path}", sync_url=url).backend.open()
    assert path.read_bytes() == before
    with pytest.raises(BackendError, match="does not exist"):
        await make_world(f"file:{tmp_path}/no/r.db", sync_url=url).backend.open()


@pytest.mark.parametrize("url", [":memory:", "libsql://h", "postgresql://h/d"])
def test_a_url_that_names_no_file(url: str) -> None:
    with pytest.raises(ConfigurationError, match="names the replica's file"):
        create_world(url, sync_url="libsql://h")


async def test_the_server_stops_and_starts(
    own: Sqld, make_world: MakeWorld, tmp_path: Path
) -> None:
    """What cannot be brought up to date is not read: the primary is asked, and waited for."""
    world = make_world(f"file:{tmp_path / 'r.db'}", sync_url=own.url)
    await create_run(world, "wrun_1")
    own.stop()
    own.start()
    await create_run(world, "wrun_2")
    assert len((await world.runs.list()).data) == 2


class Behind:
    """A replica's connection that is not brought up to date any more: the fault is that nobody can
    tell a real driver to fall behind."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def sync(self) -> None:
        """Nothing comes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def test_decisions_rest_on_the_primary_however_old_the_file_is(
    url: str, make_world: MakeWorld, tmp_path: Path
) -> None:
    near = make_world(f"file:{tmp_path / 'r.db'}", sync_url=url)
    far = make_world(url)
    for number in (1, 2):
        await create_run(near, f"wrun_{number}")
    await near.events.create("wrun_2", event("step_created", "s", stepName="s", input=1))
    await near.events.create("wrun_2", event("hook_created", "h", token="t"))  # noqa: S106
    await near.queue(QUEUE, {"runId": "wrun_1"})
    assert (await near.messages.stats()).counts
    replica = near.backend.database._replica  # type: ignore[attr-defined]
    replica._connection = Behind(replica._connection)

    await far.events.create("wrun_1", event("run_completed", output=1))
    await far.events.create("wrun_2", event("step_completed", "s", result=1))
    await far.events.create("wrun_2", event("hook_disposed", "h"))
    (taken,) = await claimed(far)
    # The file knows nothing of it ...
    runs = (await near.runs.list()).data
    assert {run.status for run in runs} == {"pending"}
    assert [one.status for one in (await near.messages.list()).data] == ["pending"]
    # ... but what is decided here knows all of it.
    for run_id, late in (
        ("wrun_1", event("run_completed", output=2)),
        ("wrun_1", event("run_failed", error=b"e")),
        ("wrun_1", event("step_created", "s", stepName="s", input=1)),
        ("wrun_2", event("step_completed", "s", result=2)),
        ("wrun_2", event("hook_disposed", "h")),
    ):
        with pytest.raises((EntityConflictError, HookNotFoundError)):
            await near.events.create(run_id, late)
    assert (await near.events.create("wrun_2", event("run_started"))).run is not None
    assert await claimed(near) == ()
    # A token that is free again, and a key that is taken.
    await near.events.create("wrun_2", event("hook_created", "again", token="t"))  # noqa: S106
    key = {"idempotency_key": "k"}
    assert await near.queue(QUEUE, {"n": 1}, **key) == await far.queue(QUEUE, {"n": 2}, **key)
    assert taken.message_id not in {one.message_id for one in await claimed(near)}
    log = [kind for kind, _ in await log_of(far, "wrun_1")]
    assert log == ["run_created", "run_completed"]


async def claimed(world: World) -> tuple[Any, ...]:
    claim = await world.backend.messages.claim(
        limit=9, lease=timedelta(seconds=60), serialize_runs=True, prefixes=None
    )
    return tuple(claim.messages)
