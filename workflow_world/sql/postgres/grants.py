"""SQL that gives a role what it needs, and nothing else: for whoever sets a database up."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from ...errors import ConfigurationError
from ..migrate import VERSION_TABLE
from ..tables import checked_prefix, checked_schema

Rights: TypeAlias = Literal["run", "read", "migrate"]
RIGHTS: Final[tuple[Rights, ...]] = get_args(Rights)

_MAX_NAME: Final = 63

_RUN: Final = {
    "workflow_runs": "SELECT, INSERT, UPDATE",
    "workflow_steps": "SELECT, INSERT, UPDATE",
    # A log: what is in it stays. Only a wait that is over is marked so.
    "workflow_events": "SELECT, INSERT, UPDATE (due_at)",
    "workflow_hooks": "SELECT, INSERT, DELETE",
    "queue_messages": "SELECT, INSERT, UPDATE, DELETE",
    # To lock a row one must be allowed to update a column of it; none ever is.
    "stream_chunks": "SELECT, INSERT, UPDATE (created_at)",
    VERSION_TABLE: "SELECT",
}

_HEADERS: Final[dict[Rights, str]] = {
    "run": """\
-- To work with auto_migrate=False: all operations, workers, check and repair; no DDL.
-- For an administrator of the database, after each 'workflow-world db upgrade'.
-- Before Postgres 15 everybody may create tables in the schema public, unless one says
-- REVOKE CREATE ON SCHEMA public FROM PUBLIC;
""",
    "read": """\
-- To look: status, check and every operation that only reads, with auto_migrate=False.
-- For an administrator of the database, after each 'workflow-world db upgrade'.
""",
    "migrate": """\
-- For 'workflow-world db upgrade': the role owns the tables that it makes, so only it, or a member
-- of it, can alter them later. For an administrator of the database.
""",
}


def grants(
    role: str,
    rights: Rights = "run",
    *,
    database: str | None = None,
    prefix: str = "",
    schema: str | None = None,
) -> str:
    """The statements, in one transaction; they can be run again at any time.

    Args:
        role: an existing role; not checked here, quoted whatever is in it.
        rights: ``run`` and ``read`` take away what else the role was granted on the tables.
        database: with it, also the right to connect.
        schema: None means ``public``.

    Raises: ConfigurationError for a name that cannot be one.
    """
    who = _quoted(role, "role")
    where = _quoted(checked_schema(schema or "public"), "schema")
    lines = [_HEADERS[rights] + "BEGIN;"]
    if database:
        lines.append(f"GRANT CONNECT ON DATABASE {_quoted(database, 'database')} TO {who};")
    if rights == "migrate":
        if schema is not None:
            lines.append(f"CREATE SCHEMA IF NOT EXISTS {where};")
        lines.append(f"GRANT USAGE, CREATE ON SCHEMA {where} TO {who};")
    else:
        lines.append(f"GRANT USAGE ON SCHEMA {where} TO {who};")
        for name, needed in _RUN.items():
            table = f"{where}.{_quoted(checked_prefix(prefix) + name, 'table_prefix')}"
            lines.append(f"REVOKE ALL ON TABLE {table} FROM {who};")
            lines.append(f"GRANT {needed if rights == 'run' else 'SELECT'} ON {table} TO {who};")
    return "\n".join([*lines, "COMMIT;", ""])


def _quoted(name: str, what: str) -> str:
    if not name or "\0" in name or len(name.encode("utf-8", "replace")) > _MAX_NAME:
        raise ConfigurationError(
            f"{what} must be a name of 1 to {_MAX_NAME} bytes without NUL, not {name!r:.80}"
        )
    return '"' + name.replace('"', '""') + '"'
