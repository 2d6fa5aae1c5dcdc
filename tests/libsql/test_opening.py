"""What can be wrong with a URL, a token, a server or a schema: one clear error, and no secret."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any

import pytest
from click.testing import CliRunner
from postgres.helpers import create_run, log_of
from servers.sqld import Signer, Sqld

from workflow_world import World, create_world, hrana
from workflow_world.cli.app import app
from workflow_world.errors import BackendError, ConfigurationError, SchemaError
from workflow_world.sql import migrate

from .conftest import MakeWorld, Spawn

SECRET = "s3cret-t0ken"  # noqa: S105


async def opening_fails(world: World) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await world.backend.open()
    assert "\n" not in str(caught.value)
    return caught.value


# --- URLs and options ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("libsql://", "names no host"),
        (f"libsql://h?authToken={SECRET}&what=1", "known is authToken and tls"),
        (f"libsql://u:{SECRET}@h", "pass auth_token"),
        ("libsql://h?tls=0", "must name its port"),
        ("https://h?tls=0", "contradict each other"),
        ("libsql://h:x", "host or port is wrong"),
        (f"libsql://h?authToken={SECRET}%20x", "no header may hold"),
    ],
)
def test_a_url_that_cannot_work(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        create_world(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("token", ["", " ", 7])
def test_a_token_that_cannot_be(token: Any) -> None:
    with pytest.raises(ConfigurationError, match="auth_token must be non-empty text"):
        create_world("libsql://h", auth_token=token)


@pytest.mark.parametrize("timeout", [0, -1, 1.5, True, "1"])
def test_a_timeout_that_cannot_be(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="request_timeout_ms must be"):
        create_world("libsql://h", request_timeout_ms=timeout)


def test_an_unknown_option() -> None:
    with pytest.raises(TypeError, match="libSQL has no option synchronous"):
        create_world("libsql://h", synchronous="full")


def test_b196_no_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    world = create_world(f"libsql://h?authToken={SECRET}")
    database: Any = world.backend.database  # type: ignore[attr-defined]
    for shown in (world, world.backend, database, database.location, database.engine):
        assert SECRET not in repr(shown)
    assert SECRET not in caplog.text


# --- tokens ----------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["option", "url", "environment"])
async def test_a_token_is_taken_from(
    how: str,
    guarded: Sqld,
    signer: Signer,
    make_world: MakeWorld,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = signer.token()
    caplog.set_level(logging.DEBUG)
    if how == "environment":
        monkeypatch.setenv("WORKFLOW_TURSO_AUTH_TOKEN", f"{token}\n")
    world = make_world(
        f"{guarded.url}&authToken={token}" if how == "url" else guarded.url,
        auth_token=token if how == "option" else None,
    )
    await create_run(world, f"wrun_{how}")
    assert token not in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("none", "wants an auth token (401)"),
        ("wrong", "refused the auth token (401)"),
        ("expired", "refused the auth token (401)"),
    ],
)
async def test_a_refused_token_is_one_clear_error(
    kind: str, text: str, guarded: Sqld, signer: Signer, make_world: MakeWorld
) -> None:
    tokens = {"none": None, "wrong": Signer().token(), "expired": signer.token(expires_in=-3600)}
    error = await opening_fails(make_world(guarded.url, auth_token=tokens[kind]))
    assert text in str(error)
    assert "WORKFLOW_TURSO_AUTH_TOKEN" in str(error)
    assert (tokens[kind] or SECRET) not in "".join(
        f"{one!r}{one}" for one in (error, error.__cause__)
    )


@pytest.mark.anyio
async def test_a_token_that_may_only_read(
    guarded: Sqld, signer: Signer, make_world: MakeWorld
) -> None:
    world = make_world(guarded.url, auth_token=signer.token("ro"))
    assert (await world.runs.list()).data is not None
    with pytest.raises(BackendError, match="auth_token"):
        await create_run(world, "wrun_read_only")


# --- servers that are none -------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_unknown_host(make_world: MakeWorld) -> None:
    error = await opening_fails(make_world("libsql://nowhere.invalid"))
    assert "nowhere.invalid cannot be reached" in str(error)


@pytest.mark.anyio
async def test_nobody_listens(make_world: MakeWorld) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        error = await opening_fails(make_world(f"http://127.0.0.1:{port}"))
    assert f"127.0.0.1:{port} cannot be reached" in str(error)


@pytest.mark.anyio
async def test_tls_to_a_plain_port(server: Sqld, make_world: MakeWorld) -> None:
    error = await opening_fails(make_world(f"libsql://{server.host}"))
    assert "does not speak TLS" in str(error)


@pytest.mark.anyio
async def test_a_database_that_the_server_does_not_have(
    server: Sqld, make_world: MakeWorld
) -> None:
    error = await opening_fails(make_world(f"http://{server.host}/nowhere"))
    assert "no such database" in str(error)


# --- the schema ------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_older_and_a_newer_schema(own: Sqld, make_world: MakeWorld) -> None:
    checked = make_world(own.url, auto_migrate=False)
    with pytest.raises(SchemaError, match="has no workflow-world schema"):
        await checked.backend.open()
    migrate.upgrade(own.url, environ={})
    assert migrate.current(own.url, environ={}) == migrate.HEAD
    with contextlib.closing(hrana.connect(own.url)) as rival:
        rival.execute("UPDATE workflow_world_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="upgrade workflow-world"):
        await make_world(own.url).backend.open()


@pytest.mark.anyio
@pytest.mark.timeout(240)
async def test_eight_processes_start_on_an_empty_database(own: Sqld, spawn: Spawn) -> None:
    children = [spawn("open", own.url) for _ in range(8)]
    for child in children:
        assert await asyncio.to_thread(child.line) == "ready"
    for child in children:
        child.go()
    for child in children:
        assert await asyncio.to_thread(child.end) == ["0"]
    migrate.check(own.url, environ={})


@pytest.mark.anyio
async def test_worlds_share_what_is_equal(url: str, make_world: MakeWorld) -> None:
    """And closing one keeps the other working."""
    one, two = make_world(url), make_world(url)
    other = make_world(url, request_timeout_ms=29_000)
    databases = [world.backend.database for world in (one, two, other)]  # type: ignore[attr-defined]
    assert databases[0] is databases[1] is not databases[2]
    await create_run(one, "wrun_1")
    await one.close()
    assert await log_of(two, "wrun_1") == [("run_created", None)]


@pytest.mark.anyio
async def test_two_prefixes_in_one_database(own: Sqld, make_world: MakeWorld) -> None:
    one, two = make_world(own.url, table_prefix="a_"), make_world(own.url, table_prefix="b_")
    await create_run(one, "wrun_1")
    await create_run(two, "wrun_1")
    assert await log_of(one, "wrun_1") == await log_of(two, "wrun_1")


def test_the_command(own: Sqld) -> None:
    url = f"{own.url}&authToken={SECRET}"
    for arguments, said in (
        (("db", "current"), "none"),
        (("setup",), "the schema is at 0001"),
        (("db", "check"), "up to date"),
        (("db", "sql"), "CREATE TABLE workflow_runs"),
        (("status",), "The queue is empty"),
        (("check",), ""),
    ):
        ran = CliRunner().invoke(app, [*arguments, "--url", url])
        assert ran.exit_code == 0, ran.output
        assert said in ran.output
        assert SECRET not in ran.output
