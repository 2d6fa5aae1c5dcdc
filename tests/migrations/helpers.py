"""Reading a database's schema as SQLite has it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory

from workflow_world.sql.migrate import config_for

TABLES = (
    "workflow_runs",
    "workflow_steps",
    "workflow_events",
    "workflow_hooks",
    "queue_messages",
    "stream_chunks",
)
VERSION = "workflow_world_version"
ROOT = Path(__file__).parents[2]


def ask(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql, values).fetchall()


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def table_names(path: Path) -> set[str]:
    found = ask(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    return {row[0] for row in found if not row[0].startswith("sqlite_")}


def schema(path: Path) -> dict[str, Any]:
    """Everything that is declared, table by table and index by index, in a comparable form.

    The order of constraints within a table says nothing, so it is left out.
    """
    found: dict[str, Any] = {}
    master = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    for kind, name, sql in ask(path, master):
        if name.endswith(VERSION):
            continue  # Alembic's own
        if kind == "table":
            found[name] = {
                "columns": ask(path, "SELECT * FROM pragma_table_xinfo(?)", name),
                "keys": ask(path, "SELECT * FROM pragma_foreign_key_list(?)", name),
                "constraints": sorted(constraints(sql)),
            }
        else:
            found[name] = normal(sql)
    return found


def constraints(sql: str) -> list[str]:
    """The named constraints of a CREATE TABLE statement, one text each."""
    lines = [normal(line).rstrip(",") for line in sql.splitlines()]
    return [line for line in lines if line.startswith("CONSTRAINT ")]


def normal(sql: str) -> str:
    """Without what carries no meaning: white space, and quotes that need not be."""
    return re.sub(r'"(\w+)"', r"\1", " ".join(sql.split()))


def revisions() -> list[str]:
    """The revisions in the script directory, oldest first."""
    directory = ScriptDirectory.from_config(config_for("", None))
    return [script.revision for script in reversed(list(directory.walk_revisions()))]
