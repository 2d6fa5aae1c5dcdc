"""The schema's version: bring a database up to date, check it, or print the SQL.

The revisions are Alembic's, in ``alembic/``: carried into the wheel, so that an installed
package and a checkout run the same ones. The version is in the table ``workflow_world_version``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection, Engine

from ..errors import ConfigurationError, SchemaError
from ..registry import redact, scheme_of
from .tables import checked_prefix, checked_schema

if TYPE_CHECKING:
    from alembic.config import Config

    from .postgres.grants import Rights

HEAD: Final = "0001"
"""The newest revision; a test compares it with the scripts."""

KNOWN: Final = ("0001",)
"""All revisions, oldest first."""

VERSION_TABLE: Final = "workflow_world_version"
TABLE_NAMES: Final = (
    "workflow_runs",
    "workflow_steps",
    "workflow_events",
    "workflow_hooks",
    "queue_messages",
    "stream_chunks",
)


def version_of(connection: Connection, prefix: str, schema: str | None = None) -> str | None:
    """The revision that the database is at, or None: no tables of ours.

    Raises: SchemaError for tables that another program made, for a newer revision, and for tables
        without a revision.
    """
    names = set(inspect(connection).get_table_names(schema))
    found = sorted(prefix + name for name in TABLE_NAMES if prefix + name in names)
    if prefix + VERSION_TABLE not in names:
        if found:
            raise SchemaError(
                f"The database has tables that workflow-world did not make ({', '.join(found)}), "
                "for example from the TypeScript world: they were left as they are. Use another "
                "database, or set table_prefix to keep both in one"
            )
        return None
    table = version_table(prefix, schema)
    row = connection.execute(text(f"SELECT version_num FROM {table}")).first()  # noqa: S608
    if row is None and found:
        raise SchemaError(
            f"The database has tables of workflow-world ({', '.join(found)}), but {table} has no "
            "row: it was emptied, or an upgrade or a copy was cut off. If the tables are complete, "
            "run "
            f"{set_version(table)}; else restore a backup. Nothing was altered"
        )
    version = None if row is None else str(row[0])
    if version is not None and version not in KNOWN:
        raise SchemaError(
            f"The database is at schema version {version}, this package knows up to {HEAD}: "
            "upgrade workflow-world. Nothing was altered"
        )
    return version


def set_version(table: str) -> str:
    """The statement that says that the tables are those of ``HEAD``."""
    return f"INSERT INTO {table} VALUES ('{HEAD}')"  # noqa: S608  # nothing but our names


def version_table(prefix: str, schema: str | None = None) -> str:
    """Its name as SQL has it."""
    table = f'"{prefix}{VERSION_TABLE}"'
    return f'"{schema}".{table}' if schema else table


def create_version_table(prefix: str, schema: str | None = None) -> str:
    """The statement with which Alembic makes it, for whoever needs it before Alembic does."""
    return (
        f"CREATE TABLE IF NOT EXISTS {version_table(prefix, schema)} "
        "(version_num VARCHAR(32) NOT NULL, "
        f'CONSTRAINT "{prefix}{VERSION_TABLE}_pkc" PRIMARY KEY (version_num))'
    )


def check_version(connection: Connection, prefix: str, schema: str | None = None) -> None:
    """Raises: SchemaError unless the database is at ``HEAD``; says the command to run."""
    version = version_of(connection, prefix, schema)
    if version != HEAD:
        state = "has no workflow-world schema" if version is None else f"is at {version}"
        raise SchemaError(
            f"The database {state}, version {HEAD} is needed: run 'workflow-world db upgrade' with "
            "the same --url, --schema and --table-prefix"
        )


def bring_up_to_date(
    engine: Engine,
    prefix: str = "",
    revision: str = "head",
    *,
    schema: str | None = None,
    lock: Callable[[Connection], None] | None = None,
) -> None:
    """Upgrade in one transaction that holds a lock, so that many may start at once.

    ``lock`` takes it, on engines where the beginning of a transaction does not.
    """
    with engine.connect().execution_options(ro=True) as connection:
        # The common case costs one read and does not even import Alembic.
        if version_of(connection, prefix, schema) == HEAD and revision in ("head", HEAD):
            return
    with engine.begin() as connection:
        if lock is not None:
            lock(connection)
        if version_of(connection, prefix, schema) == HEAD and revision in ("head", HEAD):
            return
        from alembic import command

        command.upgrade(config_for(prefix, connection, schema), revision)


def _check_revision(revision: str) -> None:
    if revision not in ("head", *KNOWN):
        raise ConfigurationError(f"No revision {revision!r}: known are {', '.join(KNOWN)} and head")


def offline_sql(
    url: str, revision: str = "head", prefix: str = "", *, schema: str | None = None
) -> str:
    """The SQL that an upgrade from nothing would run, for review or for a DBA."""
    from alembic import command

    for part in revision.split(":"):
        _check_revision(part)
    config = config_for(checked_prefix(prefix), None, schema and checked_schema(schema))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    config.output_buffer = buffer = io.StringIO()
    command.upgrade(config, revision, sql=True)
    return buffer.getvalue()


def grants_sql(
    url: str,
    role: str,
    rights: Rights = "run",
    *,
    table_prefix: str = "",
    schema: str | None = None,
) -> str:
    """The SQL that gives a Postgres role its rights; see ``sql.postgres.grants``.

    Raises: ConfigurationError for a database without roles, or for a name that cannot be one.
    """
    if scheme_of(url) not in ("postgresql", "postgres"):
        raise ConfigurationError(
            f"{redact(url)} has no roles: whoever may write the file may use the database"
        )
    from .postgres.grants import grants
    from .postgres.location import locate

    database = locate(url).arguments.get("dbname")
    return grants(role, rights, database=database, prefix=table_prefix, schema=schema)


def config_for(prefix: str, connection: Connection | None, schema: str | None = None) -> Config:
    """An Alembic configuration on our scripts; no ini file is needed."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection, "table_prefix": prefix, "schema": schema})
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    return config


def scripts() -> Path:
    """The folder of the revisions: in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "alembic", package.parent / "alembic"):
        if (folder / "env.py").is_file():
            return folder
    raise SchemaError("The migration scripts are missing from this installation: reinstall it")


def upgrade(
    url: str | None = None,
    revision: str = "head",
    *,
    environ: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """Create or upgrade the schema of the database that the URL names, creating a missing file."""
    from . import open_database

    _check_revision(revision)
    options["auto_migrate"] = True  # that is what was asked for, whatever the environment says
    database = open_database(url, environ=os.environ if environ is None else environ, **options)
    try:
        database.open_blocking(revision)
    finally:
        database.close()


def current(
    url: str | None = None, *, environ: Mapping[str, str] | None = None, **options: Any
) -> str | None:
    """The database's revision, or None for one without a schema. Changes nothing."""
    from . import inspect_database

    with inspect_database(
        url, environ=os.environ if environ is None else environ, **options
    ) as connection:
        return version_of(connection, *_names(options))


def check(
    url: str | None = None, *, environ: Mapping[str, str] | None = None, **options: Any
) -> None:
    """Raises: SchemaError unless the database is at the newest revision. Changes nothing."""
    from . import inspect_database

    with inspect_database(
        url, environ=os.environ if environ is None else environ, **options
    ) as connection:
        check_version(connection, *_names(options))


def _names(options: Mapping[str, Any]) -> tuple[str, str | None]:
    """Prefix and schema."""
    return str(options.get("table_prefix") or ""), options.get("schema") or None
