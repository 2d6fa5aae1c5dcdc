"""Embedded replicas: what is read from the file, and what can be wrong with it."""

from __future__ import annotations

import logging
import sqlite3
from importlib.util import find_spec
from pathlib import Path

import pytest
from postgres.helpers import QUEUE, create_run, event, log_of
from servers.sqld import Signer, Sqld, empty_tables

from workflow_world import create_world
from workflow_world.errors import BackendError, ConfigurationError
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
