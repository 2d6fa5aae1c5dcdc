"""The SQL backend: SQLite files and in-memory databases."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy.engine import Connection, Engine

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import ConfigurationError
from ..registry import opener_for
from ..settings import env_switch, env_text
from .backend import SqlBackend
from .database import Database, Synchronous
from .locations import Location, locate

__all__ = ["SqlBackend", "inspect_database", "open_backend", "open_database", "open_engine"]

_PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}")


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
    return Database(location, clock=SYSTEM_CLOCK, **chosen).connectable()


@contextmanager
def inspect_database(
    url: str | None, *, environ: Mapping[str, str], **options: Any
) -> Generator[Connection]:
    """A read connection to an existing database; nothing is created or altered."""
    options["auto_migrate"] = False
    database = open_database(url, environ=environ, **options)
    engine = database.connectable()
    try:
        with engine.connect().execution_options(ro=True) as connection:
            yield connection
    finally:
        engine.dispose()


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
    if synchronous not in (None, "full", "normal"):
        raise ConfigurationError(f"synchronous must be 'full' or 'normal', not {synchronous!r}")
    if table_prefix and _PREFIX.fullmatch(table_prefix) is None:
        raise ConfigurationError(
            "table_prefix must be up to 31 letters, digits and underscores, starting with a letter"
        )
    if engine is not None and engine.dialect.driver != "pysqlite":
        raise ConfigurationError(f"engine must use sqlite3, not {engine.dialect.driver}")
    return locate(url), {
        "auto_migrate": True if auto_migrate is None else auto_migrate,
        "synchronous": synchronous or "full",
        "prefix": table_prefix or "",
        "engine": engine,
    }
