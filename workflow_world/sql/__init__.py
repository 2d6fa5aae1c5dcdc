"""The SQL backend: SQLite files, in-memory databases, remote libSQL, and Postgres."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection

from ..clock import SYSTEM_CLOCK, Clock
from ..errors import ConfigurationError
from ..registry import opener_for, redact, scheme_of
from ..settings import env_switch, env_text
from .backend import SqlBackend
from .database import Database
from .tables import checked_prefix

__all__ = [
    "SqlBackend",
    "check_options",
    "inspect_database",
    "open_backend",
    "open_database",
]


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
            ``table_prefix``, ``engine`` (a SQLAlchemy engine of the caller's, which is never
            disposed of), and the engine's own: ``synchronous`` (``full`` or ``normal``) on
            SQLite, ``auth_token`` (environment ``WORKFLOW_TURSO_AUTH_TOKEN``) on libSQL, where
            ``sync_url`` makes the URL's file an embedded replica, and those of
            ``workflow_world.sql.postgres.options.Options`` on Postgres.

    Raises: ConfigurationError, TypeError for an unknown option.
    """
    make, key = _plan(url, os.environ if environ is None else environ, clock, **options)
    return SqlBackend(make, key if shared else None)


def open_database(
    url: str | None, *, environ: Mapping[str, str], clock: Clock = SYSTEM_CLOCK, **options: Any
) -> Database:
    """The database alone, for the commands around the schema."""
    make, _ = _plan(_url(url, environ), environ, clock, **options)
    return make()


def check_options(url: str, **options: Any) -> None:
    """Raises: what ``open_backend`` raises for them; makes nothing."""
    _plan(_url(url, {}), {}, SYSTEM_CLOCK, **options)


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
    engine = database.engine
    try:
        with database.translated(), engine.connect().execution_options(ro=True) as connection:
            yield connection
    finally:
        engine.dispose()


def _url(url: str | None, environ: Mapping[str, str]) -> str:
    from ..factory import DEFAULT_URL, URL_VARIABLES

    chosen = url or env_text(URL_VARIABLES, environ) or DEFAULT_URL
    opener_for(chosen)  # names the known schemes when this is none of them
    return chosen


def _plan(
    url: str,
    environ: Mapping[str, str],
    clock: Clock,
    *,
    auto_migrate: bool | None = None,
    table_prefix: str | None = None,
    **options: Any,
) -> tuple[Callable[[], Database], Hashable | None]:
    if auto_migrate is None:
        auto_migrate = env_switch("WORKFLOW_AUTO_MIGRATE", environ)
    elif type(auto_migrate) is not bool:
        raise ConfigurationError(f"auto_migrate must be True or False, not {auto_migrate!r}")
    common: dict[str, Any] = {
        "clock": clock,
        "auto_migrate": True if auto_migrate is None else auto_migrate,
        "prefix": "" if table_prefix is None else checked_prefix(table_prefix),
    }
    scheme = scheme_of(url)
    if scheme in ("libsql", "http", "https") or options.get("sync_url") is not None:
        from .libsql.opening import plan as libsql_plan

        return libsql_plan(url, environ=environ, **common, **options)
    if scheme in ("postgresql", "postgres"):
        try:
            from .postgres.opening import plan as postgres_plan
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"The Postgres backend needs {error.name}: pip install 'workflow-world[postgres]'"
            ) from error
        return postgres_plan(url, **common, **options)
    if scheme == "mongodb":
        raise ConfigurationError(
            f"{redact(url)} is no SQL database: workflow-world setup makes its collections"
        )
    from .sqlite.opening import plan as sqlite_plan

    return sqlite_plan(url, **common, **options)
