"""TLS, with the server's certificate checked, on a server that lets nobody in without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import postgres, tls
from servers.postgres import Postgres
from servers.tls import Authority

from workflow_world.errors import WorldError

from .conftest import MakeWorld
from .helpers import QUEUE, create_run, event, log_of

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[Postgres]:
    files = authority.certificate()
    certificate, key = (f"../{file.name}" for file in files)
    programs = postgres.with_tls()
    with Postgres(programs, files, ssl="on", ssl_cert_file=certificate, ssl_key_file=key) as found:
        hba = found.folder / "data" / "pg_hba.conf"
        plain = hba.read_text()
        hba.write_text(f"hostnossl all secretive 127.0.0.1/32 reject\n{plain}")
        found.execute("SELECT pg_reload_conf(); CREATE ROLE secretive LOGIN SUPERUSER")
        yield found


def url_of(server: Postgres, query: str, *, host: str = tls.HERE) -> str:
    return f"postgresql://secretive@{host}:{server.port}/postgres?{query}"


async def test_a_run_over_tls(
    secure: Postgres, authority: Authority, make_world: MakeWorld
) -> None:
    """The pool's connections, the listener's and the migration's."""
    url = url_of(secure, f"sslmode=verify-full&sslrootcert={authority.path}")
    world, other = make_world(url), make_world(url, pool_size=2)
    await create_run(world, "wrun_1")
    done = asyncio.create_task(other.runs.wait("wrun_1"))
    await world.queue(QUEUE, {"runId": "wrun_1"})
    await world.events.create("wrun_1", event("run_completed", output=1))
    assert (await done).status == "completed"
    assert len(await log_of(other, "wrun_1")) == 2
    used = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
    assert secure.execute(f"{used} WHERE usename = 'secretive'") == [(True,)]


@pytest.mark.parametrize(
    ("query", "host", "expected"),
    [
        ("sslmode=disable", tls.HERE, "no encryption.*check sslmode"),
        ("sslmode=verify-full&sslrootcert={other}", tls.HERE, "verify failed.*sslrootcert"),
        ("sslmode=verify-full&sslrootcert=/nowhere", tls.HERE, "does not exist.*sslrootcert"),
        ("sslmode=verify-full&sslrootcert={path}", "localhost", "does not match.*sslrootcert"),
    ],
)
async def test_what_is_refused_is_one_clear_line(
    secure: Postgres,
    authority: Authority,
    make_world: MakeWorld,
    tmp_path: Path,
    query: str,
    host: str,
    expected: str,
) -> None:
    query = query.format(path=authority.path, other=Authority(tmp_path).path)
    world = make_world(url_of(secure, query, host=host))
    with pytest.raises(WorldError, match=expected) as caught:
        await world.runs.list()
    assert "\n" not in str(caught.value)
