"""The SQL backend: SQLite files and in-memory databases."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import Connection, Engine

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import ConfigurationError
from ..registry import opener_for
from ..settings import env_switch, env_text
from .backend import SqlBackend
from .connections import Synchronous, translated
from .database import Database
from .locations import Location, locate
from .tables import checked_prefix

__all__ = ["SqlBackend", "inspect_database", "open_backend", "open_database", "open_engine"]


def open_backend(
    url: str,
    *,
    clock: Clock = SYSTEM_CLOCK,
    environ: Mapping[str, str] | None = None,
    shared: bool = True,
    **options: Any,
) -> SqlBackend:
    """A handle on the database that the URL names; no I/O yet.

    Args:
        shared: one set of connections for all handles of this process on the same URL, options
            and clock; False gives this handle its own.
        options: ``auto_migrate`` (environment ``WORKFLOW_AUTO_MIGRATE``, default on),
            ``synchronous`` (``full`` or ``normal``), ``table_prefix``, ``engine`` (a SQLAlchemy
            engine of the caller's, which is never disposed of).

    Raises: ConfigurationError, TypeError for an unknown option.
    """
    environ = os.environ if environ is None else environ
    location, chosen = _chosen(url, environ, **options)
    key = None
    if shared and location.path is not None and chosen["engine"] is None:
        key = (str(location.path), id(clock), *(chosen[name] for name in sorted(chosen)))

    def make() -> Database:
        return Database(location, clock=clock, **chosen)

    return SqlBackend(make, key)


def open_database(
    url: str | None, *, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK, **options: Any
) -> Database:
    """The database alone, for the commands around the schema."""
    location, chosen = _chosen(_url(url, environ), environ, **options)
    return Database(location, clock=clock, **chosen)


def open_engine(url: str) -> Engine:
    """An engine for Alembic's own command line: our connections, our transactions."""
    location, chosen = _chosen(url, {})
    database = Database(location, clock=SYSTEM_CLOCK, **chosen)
    database.prepare()
    return database.engine


@contextmanager
def inspect_database(
    url: str | None, *, environ: Mapping[str, str], **options: Any
) -> Generator[Connection]:
    """A read connection to an existing database; nothing is created or altered.

    Raises: BackendError.
    """
    options["auto_migrate"] = False
    database = open_database(url, environ=environ, **options)
    database.prepare()
    try:
        with translated(), database.engine.connect().execution_options(ro=True) as connection:
            yield connection
    finally:
        database.engine.dispose()


def _url(url: str | None, environ: Mapping[str, str]) -> str:
    from ..factory import DEFAULT_URL, URL_VARIABLES

    chosen = url or env_text(URL_VARIABLES, environ) or DEFAULT_URL
    opener_for(chosen)  # names the known schemes when this is none of them
    return chosen


def _chosen(
    url: str,
    environ: Mapping[str, str],
    *,
    auto_migrate: bool | None = None,
    synchronous: Synchronous | None = None,
    table_prefix: str | None = None,
    engine: Engine | None = None,
) -> tuple[Location, dict[str, Any]]:
    if auto_migrate is None:
        auto_migrate = env_switch("WORKFLOW_AUTO_MIGRATE", environ)
    elif type(auto_migrate) is not bool:
        raise ConfigurationError(f"auto_migrate must be True or False, not {auto_migrate!r}")
    if synchronous not in (None, "full", "normal"):
        raise ConfigurationError(f"synchronous must be 'full' or 'normal', not {synchronous!r}")
    location = locate(url) if engine is None else _location_of(engine)
    return location, {
        "auto_migrate": True if auto_migrate is None else auto_migrate,
        "synchronous": synchronous or "full",
        "prefix": "" if table_prefix is None else checked_prefix(table_prefix),
        "engine": engine,
    }


def _location_of(engine: object) -> Location:
    """Where a given engine's database is: presence and wake-ups are about that file."""
    if not isinstance(engine, Engine) or engine.dialect.driver != "pysqlite":
        kind = engine.dialect.driver if isinstance(engine, Engine) else type(engine).__name__
        raise ConfigurationError(f"engine must be a SQLAlchemy engine on sqlite3, not {kind}")
    path = engine.url.database
    if not path or path == ":memory:" or path.startswith("file:"):
        raise ConfigurationError(
            "engine must be on a file, as in create_engine('sqlite:///workflow.db')"
        )
    return locate(f"file:{quote(path)}")
