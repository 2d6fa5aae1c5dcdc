"""Connections to a SQLite database: how they are made, their pragmas, their errors."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Generator
from typing import Final, Literal, TypeAlias, TypeVar, cast

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool, PoolProxiedConnection

from ...errors import BackendError, InvalidRequestError
from .locations import Location

T = TypeVar("T")
Synchronous: TypeAlias = Literal["full", "normal"]

BUSY_TIMEOUT_MS: Final = 5_000
_BUSY_FIRST_S: Final = 0.0005
_BUSY_MAX_S: Final = 0.01
_BUSY_GIVE_UP_S: Final = 30.0
_JOURNAL_LIMIT: Final = 64 << 20


def engine_on(location: Location, synchronous: Synchronous, given: Engine | None) -> Engine:
    """An engine of our own: each connection is new, set up by us, and closed by us.

    With a ``given`` engine the connections come from it, and are taken out of its pool for good:
    what we set on them never reaches its owner.
    """

    def connect() -> sqlite3.Connection:
        if given is None:
            connection = sqlite3.connect(
                location.connect,
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
        else:
            borrowed = given.raw_connection()
            connection = cast("sqlite3.Connection", borrowed.driver_connection)
            borrowed.detach()
        try:
            configure(connection, synchronous)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        # The write lock at once, for a read transaction cannot be upgraded under WAL.
        read_only = connection.get_execution_options().get("ro")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def configure(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    """The pragmas of every connection; the busy timeout first, for the others may have to wait."""
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        f"synchronous={synchronous.upper()}",
        "foreign_keys=ON",
        f"journal_size_limit={_JOURNAL_LIMIT}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def use_wal(connection: PoolProxiedConnection) -> None:
    """WAL is a property of the file, and stays. Only for a database that was accepted."""
    retrying(lambda: connection.cursor().execute("PRAGMA journal_mode=WAL"))


def retrying(action: Callable[[], T]) -> T:
    """Retry while another process holds the lock, with jitter, for up to 30 s."""
    deadline, pause = time.monotonic() + _BUSY_GIVE_UP_S, _BUSY_FIRST_S
    while True:
        try:
            return action()
        except Exception as error:
            if not _is_busy(getattr(error, "orig", error)) or time.monotonic() > deadline:
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
        pause = min(pause * 1.5, _BUSY_MAX_S)


def _is_busy(error: object) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Driver errors become ours; no message holds a parameter."""
    try:
        yield
    except sqlite3.Error as error:
        raise backend_error(error) from error
    except UnicodeEncodeError as error:
        raise InvalidRequestError("Text with lone surrogates cannot be stored") from error
    except OverflowError as error:
        raise InvalidRequestError("A number is too large to be stored") from error
    except Exception as error:
        original = getattr(error, "orig", None)
        if isinstance(original, sqlite3.Error):
            raise backend_error(original) from error
        raise


_HINTS: Final = {
    "disk is full": "free some space; nothing was written",
    "readonly": "the file or its directory is read-only; nothing was written",
    "unable to open": "check that the directory exists and may be written to",
    "not a database": "the file was left as it is; name another",
    "malformed": "restore a backup, or run PRAGMA integrity_check on a copy",
    "locked": "another process holds the write lock; try again",
    "too big": "the value is over SQLite's limit of 1 GB",
}


def backend_error(error: sqlite3.Error) -> BackendError:
    """One clear line, with what to do where that is known."""
    reason = str(error)
    code = "CONSTRAINT" if isinstance(error, sqlite3.IntegrityError) else "BACKEND"
    hint = next((text for mark, text in _HINTS.items() if mark in reason), None)
    return BackendError(f"SQLite: {reason}" + (f" ({hint})" if hint else ""), code=code)
