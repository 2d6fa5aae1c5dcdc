"""``alembic`` itself, from a checkout, on a remote database: as a deployment calls it."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest
from alembic.config import Config
from hrana.proxy import Fault, Proxy
from migrations.helpers import ROOT, TABLES, VERSION
from servers.processes import free_port
from servers.sqld import Signer, Sqld

from alembic import command
from workflow_world import hrana
from workflow_world.errors import BackendError, WorldError
from workflow_world.sql import migrate

AT_MOST = 1000 if os.environ.get("CHAOS_LONG") else 3
INDEXES_TOO = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"

pytestmark = pytest.mark.timeout(240)


def alembic(url: str, *arguments: str, **env: str) -> str:
    """It has to succeed. Returns: what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-x", f"url={url}", *arguments],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def ask(url: str, sql: str) -> list[tuple[object, ...]]:
    with closing(hrana.connect(url)) as connection:
        return connection.execute(sql).fetchall()


def declared(url: str) -> dict[object, str]:
    """Tables and indexes, as the server has them, but for white space."""
    return {name: " ".join(str(sql).split()) for _, name, sql in ask(url, INDEXES_TOO)}


def run(url: str, printed: str) -> None:
    """As a shell does it: one statement after the other."""
    with closing(hrana.connect(url)) as connection:
        text = ""
        for line in printed.splitlines(keepends=True):
            text += "" if line.startswith("--") else line
            if sqlite3.complete_statement(text):
                connection.execute(text)
                text = ""
        assert not text.strip()
        assert not connection.in_transaction


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sqld]:
    """Empty, like ``own``."""
    with Sqld(tmp_path_factory.mktemp("sqld")) as found:
        yield found


def test_up_down_and_up_again(own: Sqld) -> None:
    for direction, there in (
        ("upgrade head", {*TABLES, VERSION}),
        ("check", {*TABLES, VERSION}),
        ("downgrade base", {VERSION}),
        ("upgrade head", {*TABLES, VERSION}),
    ):
        alembic(own.url, *direction.split())
        found = ask(own.url, "SELECT name FROM sqlite_master WHERE type = 'table'")
        assert {name for (name,) in found if not str(name).startswith("sqlite_")} == there
    migrate.check(own.url, environ={})


def test_the_token_of_the_environment(guarded: Sqld, signer: Signer) -> None:
    token = signer.token()
    assert "0001 (head)" in alembic(guarded.url, "current", WORKFLOW_TURSO_AUTH_TOKEN=token)


def test_what_is_printed_does_the_same(own: Sqld, other: Sqld) -> None:
    alembic(own.url, "upgrade", "head")
    run(other.url, alembic(other.url, "upgrade", "head", "--sql"))
    assert declared(other.url) == declared(own.url)
    assert ask(other.url, f"SELECT * FROM {VERSION}") == [(migrate.HEAD,)]  # noqa: S608
    alembic(other.url, "check")
    alembic(own.url, "downgrade", "base")
    run(other.url, alembic(other.url, "downgrade", "0001:base", "--sql"))
    assert declared(other.url) == declared(own.url)
    assert ask(other.url, f"SELECT * FROM {VERSION}") == []  # noqa: S608
    alembic(other.url, "upgrade", "head")
    migrate.check(other.url, environ={})


# --- the network -----------------------------------------------------------------------------


@pytest.fixture
def slow(own: Sqld) -> Iterator[Proxy]:
    """In front of an empty server."""
    proxy = Proxy(own.host)
    yield proxy
    proxy.close()


def go(direction: str, url: str) -> None:
    """``alembic upgrade head`` or ``downgrade base``, in this process."""
    config = Config(ROOT / "alembic.ini")
    config.set_main_option("sqlalchemy.url", url)
    if direction == "upgrade":
        command.upgrade(config, "head")
    else:
        command.downgrade(config, "base")


def test_it_takes_few_requests(slow: Proxy) -> None:
    """For as long as they take nobody else can write, and after five seconds somebody does."""
    go("upgrade", slow.url)
    requests = slow.sent()
    made = [sent for sent in requests if any("CREATE TABLE workflow_" in sql for sql in sent)]
    assert len(made) == 1, "what makes the tables is one request"
    assert len(requests) <= 9
    slow.bodies.clear()
    go("downgrade", slow.url)
    assert len(slow.bodies) <= 9


@pytest.mark.timeout(30)
def test_a_server_that_is_away_is_named_at_once() -> None:
    """Others that migrate are waited for, for a minute; not a server that nobody can reach."""
    port = free_port()
    with pytest.raises(BackendError, match=f"127.0.0.1:{port}"):
        go("upgrade", f"libsql://127.0.0.1:{port}?tls=0")


def test_a_slow_connection(slow: Proxy, own: Sqld) -> None:
    """Four at once, half a second away: who waits for five seconds takes the lock."""
    slow.delay = 0.5
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: alembic(slow.url, "upgrade", "head"), range(4)):
            pass
    migrate.check(own.url, environ={})


@pytest.mark.parametrize("fault", ["cut", "lose"])
def test_the_package_finds_out_what_became_of_its_commit(
    slow: Proxy, own: Sqld, fault: Fault
) -> None:
    """As when a World is opened: nobody has to try again."""
    slow.lone_commits.append(fault)
    migrate.upgrade(slow.url, environ={})
    assert not slow.lone_commits
    migrate.check(own.url, environ={})


@pytest.mark.parametrize("fault", ["cut", "lose"])
@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
def test_an_answer_that_is_lost_leaves_nothing_that_another_attempt_does_not_mend(
    slow: Proxy, own: Sqld, direction: str, fault: Fault, seed: int
) -> None:
    go("upgrade", own.url)
    tables = declared(own.url)
    go("downgrade", own.url)
    if direction == "downgrade":
        go("upgrade", own.url)
    slow.bodies.clear()
    go(direction, slow.url)
    numbers = [*range(len(slow.bodies))]
    random.Random(seed).shuffle(numbers)  # noqa: S311
    other = "downgrade" if direction == "upgrade" else "upgrade"
    for number in numbers[:AT_MOST]:
        go(other, own.url)
        slow.faults.extend((*("pass",) * number, fault))  # type: ignore[arg-type]
        with suppress(WorldError):
            go(direction, slow.url)
        slow.faults.clear()
        go(direction, slow.url)
        if direction == "upgrade":
            migrate.check(own.url, environ={})
            assert declared(own.url) == tables
        else:
            assert declared(own.url).keys() == {VERSION}
