"""Text is text, whatever encodings the database, the role, the URL and an engine are set to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest
from servers.postgres import Server
from sqlalchemy import create_engine

from workflow_world.errors import InvalidRequestError

from .conftest import MakeWorld
from .helpers import create_run, event

pytestmark = pytest.mark.anyio

RUNS: Final = [f"wrun_\u00e9{number}" for number in range(4)]


@pytest.fixture
def odd(request: pytest.FixtureRequest, server: Server) -> Iterator[str]:
    """The name of an empty database of another encoding."""
    found = server.create()
    server.drop(found)
    server.execute(
        f"CREATE DATABASE {found} TEMPLATE template0 ENCODING '{request.param}'"
        " LOCALE 'C' LOCALE_PROVIDER libc"
    )
    yield found
    server.drop(found)


async def check_texts(make_world: MakeWorld, url: str, **options: Any) -> None:
    """One at a time and several at once are sent in different ways."""
    world = make_world(url, **options)
    await create_run(world, RUNS[0])
    await asyncio.gather(*(create_run(world, run_id) for run_id in RUNS[1:]))
    found = {one.run_id for one in (await world.runs.list()).data}
    assert found == set(RUNS)
    assert [(await world.runs.get(run_id)).run_id for run_id in RUNS] == RUNS


@pytest.mark.parametrize(
    ("odd", "by_engine"),
    # SQLAlchemy's own engines cannot read texts of the other one.
    [("LATIN1", False), ("LATIN1", True), ("SQL_ASCII", False)],
    indirect=["odd"],
)
async def test_a_database_of_another_encoding(
    make_world: MakeWorld, server: Server, odd: str, by_engine: bool
) -> None:
    url, options = server.url(odd), dict[str, Any]()
    if by_engine:
        options["engine"] = create_engine(f"postgresql+psycopg{url.removeprefix('postgresql')}")
    await check_texts(make_world, url, **options)


async def test_a_role_and_a_url_that_say_another(
    make_world: MakeWorld, server: Server, name: str, url: str
) -> None:
    server.execute(f"ALTER DATABASE {name} SET client_encoding = 'LATIN1'")
    await check_texts(make_world, f"{url}?client_encoding=LATIN1")


@pytest.mark.parametrize("odd", ["LATIN1"], indirect=True)
async def test_a_character_that_the_encoding_lacks(
    make_world: MakeWorld, server: Server, odd: str
) -> None:
    """The caller's fault, as a NUL is: no outage that is waited for."""
    world = make_world(server.url(odd))
    await create_run(world, "wrun_1")
    with pytest.raises(InvalidRequestError, match="encoding"):
        await world.events.create("wrun_1", event("step_created", "\u2713", stepName="s", input=1))
    await world.events.create("wrun_1", event("run_started"))
