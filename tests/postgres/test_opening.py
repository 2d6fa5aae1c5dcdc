"""URLs, options and errors: one clear line, and no secret in it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from servers.postgres import Postgres, Server
from sqlalchemy import create_engine

from workflow_world import create_world
from workflow_world.errors import BackendError, ConfigurationError, InvalidRequestError, WorldError
from workflow_world.sql import open_backend

from .conftest import MakeWorld
from .helpers import QUEUE, create_run, event

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgres"])
async def test_schemes(make_world: MakeWorld, url: str, scheme: str) -> None:
    world = make_world(f"{scheme}:{url.partition(':')[2]}")
    await create_run(world, "wrun_1")
    assert repr(world) == "<World on postgres>"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://user:s3cret@host/db",
        "postgresql+psycopg2://user:s3cret@host/db",
        "postgresql://user:s3cret@host:port/db",
        "postgresql://user:s3cret@:x@host:5432x/db",
        "postgresql:user:s3cret@host/db",
        "postgresql://user:x@s3cret@host/db",
        "postgresql://user:p@ss/s3cret?@host/db",
        "postgresql://user:s3cret@host/d%00b",
        "postgresql://user:s3cret%00@host/db",
        "postgresql://user:s3cret@host/db?application_name=%00",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        create_world(url)
    check_is_one_clear_line(caught.value)


def check_is_one_clear_line(error: BaseException | None) -> None:
    assert "\n" not in str(error)
    while error is not None:
        assert "s3cret" not in str(error)
        assert "s3cret" not in repr(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"host": "nowhere.invalid"}, "(resolve|translate).*check the host"),
        ({"host": "x" * 64}, "no host has such a name.*check the host"),
        ({"port": "closed"}, "refused.*check that it runs"),
        ({"port": "99999"}, "invalid port.*check the port"),
        ({"database": "missing"}, 'database "missing" does not exist.*create it'),
        ({"user": "stranger:s3cret"}, 'role "stranger" does not exist.*create it'),
        ({"user": "guarded:s3cret"}, "password authentication failed.*check the user"),
        ({"user": "guarded:failed"}, r"password authentication \*\*\*.*check the user"),
        ({"user": "guarded"}, "no password supplied.*wants a password"),
        ({"query": "?sslmode=require"}, "does not support SSL.*check sslmode"),
        ({"query": "?sslmode=verify-full&sslrootcert=/nowhere"}, "SSL.*check sslmode"),
        ({"query": "?sslmode=odd"}, "invalid sslmode.*check sslmode"),
        ({"query": "?connect_timeout=x"}, "connect_timeout.*check the parameters"),
        ({"query": "?nonsense=s3cret"}, "nonsense.*remove it"),
    ],
)
async def test_servers_that_cannot_be_used(
    server: Server, make_world: MakeWorld, change: dict[str, str], expected: str
) -> None:
    if not isinstance(server, Postgres):
        pytest.skip("postgres: how roles may log in is known of a server of our own only")
    if "guarded" in change.get("user", ""):
        server.execute("DROP ROLE IF EXISTS guarded; CREATE ROLE guarded LOGIN PASSWORD 'other'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = str(probe.getsockname()[1])
    port = {"": str(server.port), "closed": closed}.get(change.get("port", ""), change.get("port"))
    world = make_world(
        f"postgresql://{change.get('user', 'postgres:s3cret')}"
        f"@{change.get('host', '127.0.0.1')}:{port}/{change.get('database', 'postgres')}"
        f"{change.get('query', '')}",
        auto_migrate=False,
    )
    with pytest.raises(WorldError, match=expected) as caught:
        await world.runs.list()
    check_is_one_clear_line(caught.value)


async def test_a_name_service_that_does_not_answer_is_waited_for(
    make_world: MakeWorld, server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It often fails together with the network. A name that it does not know is wrong for good."""
    url = server.url(name).replace("127.0.0.1", "localhost")
    if "localhost" not in url:
        pytest.skip("postgres: where one of our own listens is known only")
    world = make_world(url)
    await create_run(world, "wrun_1")
    left, look_up = [3], socket.getaddrinfo

    def fails(host: Any, *arguments: Any, **named: Any) -> Any:
        left[0] -= host == "localhost"
        if left[0] > 0 and host == "localhost":
            raise socket.gaierror(socket.EAI_AGAIN, "Try again")
        return look_up(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    ours = f"FROM pg_stat_activity WHERE datname = '{name}'"
    server.execute(f"SELECT pg_terminate_backend(pid) {ours}")
    await world.events.create("wrun_1", event("run_started"))
    assert left[0] <= 0


async def test_too_many_connections_are_named(
    make_world: MakeWorld, server: Server, name: str
) -> None:
    server.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    server.execute("DROP ROLE IF EXISTS limited; CREATE ROLE limited LOGIN")
    world = make_world(server.url(name, user="limited"), auto_migrate=False)
    try:
        with pytest.raises(BackendError, match=r"too many connections.*lower pool_size"):
            await world.runs.list()
    finally:
        server.execute("DROP ROLE limited")


async def test_a_standby_is_named(make_world: MakeWorld, server: Server, name: str) -> None:
    """Reads work on a read-only server, and writes say what is wrong."""
    world = make_world()
    await world.backend.open()
    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    other = make_world(pool_size=2)
    assert not (await other.runs.list()).data
    await create_run(other, "wrun_1")  # our own transactions say READ WRITE


@pytest.mark.parametrize(
    "options",
    [
        {"pool_size": 0},
        {"pool_size": True},
        {"pool_size": 2.5},
        {"statement_timeout_ms": -1},
        {"lock_timeout_ms": "x"},
        {"claim_strategy": "luck"},
        {"notifications": 1},
        {"transaction_pooler": "yes"},
        {"engine": "postgresql://"},
        {"engine": create_engine("sqlite://")},
    ],
)
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        create_world("postgresql://localhost/db", **options)


def test_unknown_options() -> None:
    with pytest.raises(TypeError, match="synchronous"):
        create_world("postgresql://localhost/db", synchronous="full")
    with pytest.raises(TypeError, match="pool_size"):
        create_world("file:x.db", pool_size=1)


async def test_worlds_share_what_is_equal(url: str) -> None:
    one, two = open_backend(url, environ={}), open_backend(url, environ={})
    other = open_backend(url, environ={}, pool_size=2)
    assert one.database is two.database
    assert other.database is not one.database
    await one.open()
    await one.close()
    assert await two.runs.get_run("wrun_none") is None
    for backend in (two, other):
        await backend.close()


@pytest.mark.parametrize(
    "options",
    [
        {"pool_size": 1},
        {"pool_size": 1, "notifications": False},
        {"transaction_pooler": True},
        {"claim_strategy": "conditional_update"},
        {"pool_size": 40},
    ],
)
async def test_a_whole_run_under_every_option(
    make_world: MakeWorld, options: dict[str, object]
) -> None:
    world = make_world(**options)
    done = asyncio.Event()

    async def handler(message: object, **_: object) -> None:
        await create_run(world, "wrun_1")
        await world.events.create("wrun_1", event("run_started"))
        await asyncio.gather(
            *(
                world.events.create(
                    "wrun_1", event("step_created", f"s{number}", stepName="s", input=1)
                )
                for number in range(20)
            )
        )
        await world.events.create("wrun_1", event("run_completed", output=1))
        done.set()

    world.create_queue_handler("__wkf_workflow_", handler)
    await world.start()
    await world.queue(QUEUE, {"runId": "wrun_1"})
    async with asyncio.timeout(60):
        await done.wait()
        assert (await world.runs.wait("wrun_1")).status == "completed"
    assert len((await world.steps.list(run_id="wrun_1")).data) == 20


async def test_connections_stay_within_the_pool(
    make_world: MakeWorld, server: Server, name: str
) -> None:
    world = make_world(pool_size=3, notifications=False)
    await asyncio.gather(*(create_run(world, f"wrun_{number}") for number in range(30)))
    await asyncio.gather(*(world.runs.get(f"wrun_{number}") for number in range(30)))
    found = server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608
    assert found[0][0] <= 3
    await world.close()
    await asyncio.sleep(0.1)
    found = server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608
    assert found == [(0,)]


async def test_nothing_is_prepared_behind_a_pooler(
    make_world: MakeWorld, server: Server, name: str
) -> None:
    """Neither statements nor settings outlive a transaction."""
    world = make_world(transaction_pooler=True, pool_size=1)
    for number in range(20):
        await create_run(world, f"wrun_{number}")
        await world.runs.get(f"wrun_{number}")
    pool = world.backend.database._pool  # type: ignore[attr-defined]
    with pool.connection() as connection:
        found = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        assert found == (0,)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)


async def test_a_given_engine_is_left_as_it_was(make_world: MakeWorld, url: str) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    world = make_world("postgresql://", engine=engine)
    await create_run(world, "wrun_1")
    await world.close()
    with engine.connect() as connection:
        shown = connection.exec_driver_sql("SHOW statement_timeout").scalar()
        assert shown == "0"
        count = connection.exec_driver_sql("SELECT count(*) FROM workflow_runs").scalar()
        assert count == 1
    engine.dispose()


# --- values ----------------------------------------------------------------------------------

PAIRS = {
    "k": "v",
    'q"uote': "back\\slash",
    "a,": '":","',
    ":": ",",
    "nul\0": "\0",
    "\u00fc.*": "^$[](){}|?+",
    "{": "}",
}


async def test_attributes_are_found_whatever_is_in_them(make_world: MakeWorld) -> None:
    world = make_world()
    for number, (key, value) in enumerate(PAIRS.items()):
        await create_run(world, f"wrun_{number}", attributes={"first": "x", key: value, "z": "y"})
    await create_run(world, "wrun_all", attributes=PAIRS)
    for number, (key, value) in enumerate(PAIRS.items()):
        found = (await world.runs.list(attributes={key: value})).data
        assert {run.run_id for run in found} == {f"wrun_{number}", "wrun_all"}, key
        assert not (await world.runs.list(attributes={key: value + "x"})).data


async def test_texts_that_postgres_cannot_store(make_world: MakeWorld) -> None:
    world = make_world()
    with pytest.raises(InvalidRequestError, match="NUL"):
        await world.events.create(
            "wrun_1", event("run_created", deploymentId="a\0b", workflowName="w", input=1)
        )
    with pytest.raises(WorldError, match=r"surrogates|Unicode"):
        await world.events.create(
            "wrun_1", event("run_created", deploymentId="\ud800", workflowName="w", input=1)
        )
    await create_run(world, "wrun_1")


async def test_ids_are_ordered_byte_by_byte(make_world: MakeWorld, tmp_path: Path) -> None:
    """As on every engine, whatever the database's language says."""
    world, other = make_world(), make_world(f"file:{tmp_path / 'w.db'}")
    ids = ["b", "B", "a", "A", "_", "-", "\u00e4", "z", "Z", "a b", "a-b", "1"]
    for one in (world, other):
        for run_id in ids:
            await one.streams.write("wrun_1", run_id, b"x")
        await create_run(one, "wrun_1")
        for step_id in ids:
            await one.events.create("wrun_1", event("step_created", step_id, stepName="s", input=1))
    names = [await one.streams.list("wrun_1") for one in (world, other)]
    assert sorted(names[0]) == sorted(names[1])
    rows = await world.backend.database.read(  # type: ignore[attr-defined]
        lambda session: session._cursor.execute(
            "SELECT step_id FROM workflow_steps ORDER BY step_id"
        ).fetchall()
    )
    assert [row[0] for row in rows] == sorted(ids)


# --- the clock -------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-1, 1])
async def test_the_servers_clock_says_what_is_due(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """A process whose own clock is an hour off neither takes messages early nor leaves them."""
    from datetime import timedelta

    from workflow_world.clock import SystemClock

    honest = make_world(pool_size=2)
    await honest.queue(QUEUE, {"n": 1}, delay_seconds=600)
    now = SystemClock.now
    monkeypatch.setattr(SystemClock, "now", lambda self: now(self) + timedelta(hours=hours))
    store = make_world().backend
    await store.open()

    async def claim() -> int:
        taken = await store.messages.claim(
            limit=9, lease=timedelta(seconds=60), serialize_runs=True, prefixes=None
        )
        return len(taken.messages)

    assert await claim() == 0
    await honest.queue(QUEUE, {"n": 2})
    async with asyncio.timeout(30):
        # What it knows of the server's clock is as old as an answer was long under way.
        while not (taken := await claim()):  # noqa: ASYNC110  # time passes
            await asyncio.sleep(0.001)
    assert taken == 1
