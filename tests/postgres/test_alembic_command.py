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
    assert not [one.stderr[-2000:] for one in done if one.returncode]
    assert schemas(server, empty) == {"flows"}


@pytest.mark.parametrize("command", ["upgrade", "downgrade"])
def test_tables_of_another_program_are_left_alone(
    server: postgres.Server, empty: str, command: str
) -> None:
    server.execute("CREATE TABLE workflow_runs (id TEXT PRIMARY KEY)", empty)
    revision = "head" if command == "upgrade" else "base"
    done = alembic("-x", f"url={server.url(empty)}", command, revision)
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in said
    assert "did not make (workflow_runs)" in said
    found = server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", empty)
    assert found == [("workflow_runs",)]


def test_printed_downgrade(server: postgres.Server, empty: str) -> None:
    about = ("-x", f"url={server.url(empty)}", "-x", "schema=flows")
    for command in (("upgrade", "head"), ("downgrade", "0001:base")):
        printed = alembic(*about, *command, "--sql")
        assert printed.returncode == 0, printed.stderr[-2000:]
        server.execute(printed.stdout, empty)
        assert schemas(server, empty) == ({"flows"} if command[0] == "upgrade" else set())
