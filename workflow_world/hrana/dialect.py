"""SQLAlchemy over the driver: ``sqlite+hrana://HOST[:PORT][/PATH]``.

    url, connect_args = engine_arguments("libsql://HOST", auth_token=TOKEN)
    engine = create_engine(url, connect_args=connect_args)

or, where only a URL can be given, with the token in the place of the password, which SQLAlchemy
shows to nobody: ``sqlite+hrana://:TOKEN@HOST``. HTTPS unless ``?tls=0``. Importing this module
registers the name.

The dialect is a subclass of sqlalchemy-libsql's where that can be imported, and of SQLAlchemy's
own for SQLite where its driver has no wheel: nothing of that driver is used.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from sqlalchemy import pool
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from .connection import Connection
from .errors import Error, InterfaceError
from .location import locate

if TYPE_CHECKING:
    _Base = SQLiteDialect_pysqlite
else:
    # It imports the stock driver, whose library else prints lines to stdout.
    os.environ.setdefault("RUST_LOG", "off")
    try:
        from sqlalchemy_libsql.libsql import SQLiteDialect_libsql as _Base
    except ImportError:
        _Base = SQLiteDialect_pysqlite

_NUMBERS: Final = ("timeout", "connect_timeout")
_LEVELS: Final = {"SERIALIZABLE": "DEFERRED", "IMMEDIATE": "IMMEDIATE", "AUTOCOMMIT": None}


class HranaDialect(_Base):
    """SQLite's dialect on a remote database.

    Every transaction is an explicit one, whose ``BEGIN`` rides with its first statement. Isolation
    levels: ``SERIALIZABLE`` begins deferred, ``IMMEDIATE`` takes the write lock at the beginning,
    ``AUTOCOMMIT`` begins nothing. A listener of the engine's ``begin`` event may send a ``BEGIN``
    of its own.
    """

    driver = "hrana"
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> Any:
        """The driver's module, which is this package."""
        module: ModuleType = sys.modules[__package__ or __name__.rpartition(".")[0]]
        return module

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        return pool.QueuePool

    def create_connect_args(self, url: URL) -> Any:
        """Raises: ArgumentError, which does not show the token."""
        options: dict[str, Any] = {"isolation_level": "DEFERRED"}
        tls: bool | None = None
        for name, value in url.query.items():
            if name in _NUMBERS:
                options[name] = float(str(value))
            elif name == "tls" and value in ("0", "1"):
                tls = value == "1"
            elif name in ("authToken", "auth_token"):
                raise ArgumentError(
                    "The auth token in the URL's query would be shown in logs: write it as the "
                    "password, sqlite+hrana://:TOKEN@HOST, or give connect_args"
                )
            else:
                raise ArgumentError(f"sqlite+hrana takes no parameter {name!r}")
        if not url.host:
            raise ArgumentError("sqlite+hrana:// names no host")
        if url.username:
            raise ArgumentError("sqlite+hrana takes a token as the password, and no user")
        if url.password:
            options["auth_token"] = url.password
        host = f"[{url.host}]" if ":" in url.host else url.host
        port = "" if url.port is None else f":{url.port}"
        scheme = "http" if tls is False else "https"
        return ([f"{scheme}://{host}{port}/{url.database or ''}"], options)

    def on_connect(self) -> Any:
        """Nothing: functions cannot be created there, and nothing is sent before it is needed."""
        return None

    def _get_server_version_info(self, connection: Any) -> Any:
        return None if self.dbapi is None else self.dbapi.sqlite_version_info

    def get_isolation_level_values(self, dbapi_connection: Any) -> Any:
        return list(_LEVELS)

    def set_isolation_level(self, dbapi_connection: Any, level: str) -> None:
        cast("Connection", dbapi_connection).isolation_level = cast("Any", _LEVELS[level])

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        found = cast("Connection", dbapi_connection).isolation_level
        return next((name for name, level in _LEVELS.items() if level == found), "SERIALIZABLE")

    def get_default_isolation_level(self, dbapi_conn: Any) -> Any:
        return self.get_isolation_level(dbapi_conn)

    def do_ping(self, dbapi_connection: Any) -> bool:
        """One round trip, and no transaction left open by it."""
        connection = cast("Connection", dbapi_connection)
        level, connection.isolation_level = connection.isolation_level, None
        try:
            connection.execute("SELECT 1")
        finally:
            connection.isolation_level = level
        return True

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Whether the connection's stream, and its transaction with it, is gone."""
        return isinstance(e, Error) and (e.disconnected or "closed connection" in str(e))


def engine_arguments(
    url: str, *, auth_token: str | None = None, tls: bool | None = None
) -> tuple[URL, dict[str, Any]]:
    """What ``create_engine`` takes for a database URL as the official clients spell it.

    Returns: the SQLAlchemy URL, without the token, and ``connect_args``, with it.
    Raises: InterfaceError, see ``locate``.
    """
    location = locate(url, auth_token=auth_token, tls=tls)
    parts = urlsplit(location.base)
    if parts.hostname is None:
        raise InterfaceError("The database URL names no host")
    found = URL.create(
        "sqlite+hrana",
        host=parts.hostname,
        port=parts.port,
        database=parts.path.lstrip("/") or None,
        query={} if parts.scheme == "https" else {"tls": "0"},
    )
    return found, {} if location.token is None else {"auth_token": location.token}


registry.register("sqlite.hrana", __name__, HranaDialect.__name__)
