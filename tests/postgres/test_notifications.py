"""Wake-ups of other processes: LISTEN and NOTIFY, and without them the poll."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from urllib.parse import urlsplit

import psycopg
import pytest
from servers.postgres import Server

from workflow_world import ConfigurationError, World
from workflow_world.clock import SystemClock
from workflow_world.errors import BackendError
from workflow_world.signals import QUEUE as QUEUE_TOPIC
from workflow_world.signals import run_topic, stream_topic
from workflow_world.sql.postgres import connections, transaction
from workflow_world.sql.postgres import listener as listener_module

from .conftest import MakeWorld, Spawn
from .helpers import PATIENCE_S, QUEUE, create_run, event, eventually
from .proxy import Proxy

pytestmark = pytest.mark.anyio

LISTENING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND query LIKE 'LISTEN%'"
)


async def listening(server: Server, name: str, count: int) -> None:
    await eventually(lambda: server.execute(LISTENING.format(name=name))[0][0] == count)


@pytest.fixture
async def pair(make_world: MakeWorld, server: Server, name: str) -> tuple[World, World]:
    """Two Worlds with connections of their own, which both listen."""
    worlds = make_world(), make_world(pool_size=3)
    for world in worlds:
        await world.backend.open()
    await listening(server, name, 2)
    return worlds


@pytest.mark.parametrize(
    ("topic", "what"),
    [
        (QUEUE_TOPIC, "queue"),
        (run_topic("wrun_1"), "end"),
        (stream_topic("wrun_1", "it's \\ 'odd' \u00fc"), "chunk"),
    ],
)
async def test_a_write_of_another_handle_wakes(
    pair: tuple[World, World], topic: str, what: str
) -> None:
    here, there = pair
    await create_run(here, "wrun_1")
    await there.events.create("wrun_1", event("run_started"))
    subscription = here.backend.notifier.subscribe(topic)
    while await subscription.wait(0.2):
        pass  # what came before
    if what == "queue":
        await there.queue(QUEUE, {"runId": "wrun_1"})
    elif what == "end":
        await there.events.create("wrun_1", event("run_completed", output=1))
    else:
        await there.streams.write("wrun_1", "it's \\ 'odd' \u00fc", b"x")
    assert await subscription.wait(PATIENCE_S)
    subscription.close()


async def test_a_write_of_another_process_wakes(
    world: World, server: Server, name: str, url: str, spawn: Spawn
) -> None:
    child = spawn("chunk", url, "wrun_1", "out")
    await asyncio.to_thread(child.line)
    await listening(server, name, 2)
    subscription = world.backend.notifier.subscribe(stream_topic("wrun_1", "out"))
    while await subscription.wait(0.2):
        pass
    child.go()
    assert await subscription.wait(PATIENCE_S)
    subscription.close()


async def test_own_notifications_are_not_heard(pair: tuple[World, World]) -> None:
    """The hub has told of them already."""
    here, _ = pair
    subscription = here.backend.notifier.subscribe(QUEUE_TOPIC)
    while await subscription.wait(0.3):
        pass
    await here.queue(QUEUE, {"runId": "wrun_1"})
    assert await subscription.wait(PATIENCE_S)
    assert not await subscription.wait(0.5)
    subscription.close()


async def test_very_many_topics_wake_everybody(pair: tuple[World, World]) -> None:
    here, there = pair
    subscription = here.backend.notifier.subscribe("anything")
    while await subscription.wait(0.2):
        pass
    name = "n" * 500
    await asyncio.gather(
        *(there.streams.write(f"wrun_{number}", name, b"x") for number in range(120))
    )
    assert await subscription.wait(PATIENCE_S)
    subscription.close()


async def test_the_listener_comes_back(
    pair: tuple[World, World], server: Server, name: str
) -> None:
    here, there = pair
    subscription = here.backend.notifier.subscribe(QUEUE_TOPIC)
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608
        f" WHERE datname = '{name}' AND query LIKE 'LISTEN%'"
    )
    assert await subscription.wait(PATIENCE_S)  # everybody looks again after a reconnect
    await listening(server, name, 2)
    while await subscription.wait(0.2):
        pass
    await there.queue(QUEUE, {"runId": "wrun_1"})
    assert await subscription.wait(PATIENCE_S)
    subscription.close()


@pytest.mark.parametrize("options", [{"notifications": False}, {"transaction_pooler": True}])
async def test_without_notifications(
    make_world: MakeWorld, server: Server, name: str, options: dict[str, bool]
) -> None:
    """Nobody listens, nobody notifies, and a worker finds its message by polling."""
    world = make_world(poll_interval_ms=20, **options)
    assert not world.backend.capabilities.notifies_processes
    rival = make_world(pool_size=2, **options)
    done = asyncio.Event()

    async def handler(message: object, **_: object) -> None:
        done.set()

    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    await rival.queue(QUEUE, {"runId": "wrun_1"})
    async with asyncio.timeout(PATIENCE_S):
        await done.wait()
    assert server.execute(LISTENING.format(name=name)) == [(0,)]


class NotingClock(SystemClock):
    """Notes how long its waits would have lasted at most, in seconds."""

    def __init__(self) -> None:
        self.waits: list[float | None] = []

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        self.waits.append(timeout)
        return await super().wait(event, timeout)


async def test_without_notifications_the_end_of_a_run_is_polled_for(make_world: MakeWorld) -> None:
    clock = NotingClock()
    world = make_world(poll_interval_ms=20, notifications=False, clock=clock)
    rival = make_world(pool_size=2, notifications=False)
    await create_run(rival, "wrun_1")
    waiting = asyncio.create_task(world.runs.wait("wrun_1"))
    await eventually(lambda: clock.waits)
    await rival.events.create("wrun_1", event("run_cancelled"))
    async with asyncio.timeout(PATIENCE_S):
        assert (await waiting).status == "cancelled"
    assert set(clock.waits) == {0.02}


async def woken_by(here: World, there: World) -> bool:
    """Whether a message of the one wakes the other."""
    subscription = here.backend.notifier.subscribe(QUEUE_TOPIC)
    while await subscription.wait(0.2):
        pass  # what came before
    await there.queue(QUEUE, {"runId": "wrun_1"})
    found = await subscription.wait(PATIENCE_S)
    subscription.close()
    return found


async def test_the_schema_by_option_and_by_search_path_is_one(
    make_world: MakeWorld, server: Server, name: str
) -> None:
    here, there = make_world(), make_world(schema="public")
    for world in (here, there):
        await world.backend.open()
    await listening(server, name, 2)
    assert await woken_by(here, there)


async def test_a_batch_is_one_notification_of_topics_alone(
    world: World, server: Server, name: str
) -> None:
    secret, heard = "s3cret", list[str]()
    with psycopg.connect(server.url(name), autocommit=True) as listener:
        channel = world.backend.database._transactions.channel  # type: ignore[attr-defined]
        listener.execute(f"LISTEN {channel}".encode())
        bodies = ({"runId": f"wrun_{number}", "secret": secret} for number in range(40))
        await asyncio.gather(*(world.queue(QUEUE, body) for body in bodies))
        await create_run(world, "wrun_1")
        await world.events.create("wrun_1", event("run_started"))
        await world.events.create("wrun_1", event("run_completed", output=secret))
        for notification in listener.notifies(timeout=PATIENCE_S):
            heard.append(notification.payload)
            if run_topic("wrun_1") in notification.payload:
                break
    told = [json.loads(payload)[1:] for payload in heard]
    assert sum(QUEUE_TOPIC in topics for topics in told) < 40
    assert {topic for topics in told for topic in topics} == {QUEUE_TOPIC, run_topic("wrun_1")}
    assert secret not in "".join(heard)


async def test_many_descriptors(make_world: MakeWorld, server: Server, name: str) -> None:
    """More than ``select`` can wait for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2_000:
        pytest.skip("the process may not have so many descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_000), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    try:
        here, there = make_world(), make_world(pool_size=3)
        for world in (here, there):
            await world.backend.open()
        await listening(server, name, 2)
        assert await woken_by(here, there)
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_child_that_lives_does_not_keep_the_listener(
    world: World, server: Server, name: str
) -> None:
    """A forked child holds copies of all descriptors."""
    await listening(server, name, 1)
    listener = world.backend.database._listener  # type: ignore[attr-defined]
    thread, waker = listener._started
    copy = os.dup(waker.fileno())
    await world.close()
    assert not thread.is_alive()
    os.close(copy)


async def test_a_connection_that_fell_silent_is_given_up(
    make_world: MakeWorld, server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes, which is no news to who listens: so it asks now and then."""
    monkeypatch.setattr(listener_module, "_SILENCE_S", 0.2)
    monkeypatch.setattr(connections, "GRACE_S", 0.2)
    parts = urlsplit(server.url(name))
    with Proxy(parts.port or 5432) as proxy:
        netloc = parts.netloc.replace(f":{parts.port}", f":{proxy.port}")
        here = make_world(parts._replace(netloc=netloc).geturl(), statement_timeout_ms=300)
        there = make_world()
        for world in (here, there):
            await world.backend.open()
        await eventually(lambda: proxy.connections >= 2)
        before = proxy.connections
        proxy.half_open()
        await eventually(lambda: proxy.connections > before)
        assert await woken_by(here, there)
        await here.close()


async def test_notifications_are_not_for_a_pooler(make_world: MakeWorld) -> None:
    with pytest.raises(ConfigurationError, match="leave them out with transaction_pooler"):
        make_world(transaction_pooler=True, notifications=True)


@pytest.mark.parametrize("together", [1, 3])
async def test_a_server_that_keeps_no_more_notifications(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """A session that listened has been in a transaction for long. The write goes on without."""
    raising = (
        "DO $$ BEGIN RAISE EXCEPTION 'too many notifications in the NOTIFY queue'"
        " USING ERRCODE = '54000'; END $$"
    )
    monkeypatch.setattr(transaction, "_telling", lambda channel, payload: raising)
    world = make_world()
    runs = [f"wrun_{number}" for number in range(together)]
    sent = await asyncio.gather(*(world.queue(QUEUE, {"runId": run_id}) for run_id in runs))
    assert len(set(sent)) == together
    monkeypatch.setattr(transaction, "_QUIET_S", 0.0)
    other = make_world(pool_size=2)
    with pytest.raises(BackendError, match=r"NOTIFY queue \(a session that listens"):
        await other.queue(QUEUE, {"runId": "wrun_x"})
