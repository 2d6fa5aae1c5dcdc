"""``alembic`` itself, from a checkout, on Postgres: as a deployment calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers import postgres

from workflow_world import create_world

ROOT = Path(__file__).parents[2]


def alembic(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # our own entry
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def schemas(server: postgres.Server, database: str) -> set[str]:
    """Where our tables are."""
    found = server.execute(
        "SELECT table_schema FROM information_schema.tables WHERE table_name = 'workflow_runs'",
        database,
    )
    return {row[0] for row in found}


@pytest.mark.anyio
@pytest.mark.parametrize("schema", [None, "flows"])
async def test_up_down_and_up_again(
    server: postgres.Server, empty: str, schema: str | None
) -> None:
    """A schema that is missing is made; the World finds what Alembic made."""
    url = server.url(empty)
    about = ["-x", f"url={url}", *([] if schema is None else ["-x", f"schema={schema}"])]
    for direction, there in (
        (("upgrade", "head"), {schema or "public"}),
        (("downgrade", "base"), set[str]()),
        (("upgrade", "head"), {schema or "public"}),
    ):
        done = alembic(*about, *direction)
        assert done.returncode == 0, done.stderr[-2000:]
        assert schemas(server, empty) == there
    world = create_world(url, schema=schema, auto_migrate=False)
    try:
        assert (await world.messages.stats()).counts == {}
    finally:
        await world.close()


def test_several_at_once(server: postgres.Server, empty: str) -> None:
    """One makes the tables, the others wait and find them."""
    about = ("-x", f"url={server.url(empty)}", "-x", "schema=flows", "upgrade", "head")
    with ThreadPoolExecutor(4) as pool:
        done = [*pool.map(lambda _: alembic(*about), range(4))]
    assert [one.returncode for one in done] == [0] * 4, done[0].stderr[-2000:]
    assert schemas(server, empty) == {"flows"}
