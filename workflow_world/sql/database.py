"""One SQLite database of this process: its engine, its write lane, its readers, its wake-ups."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from .. import faults
from ..clock import Clock
from ..errors import BackendError, InvalidRequestError
from ..signals import Hub
from .compiled import Session
from .heads import Heads
from .lane import Job, Lane, Operation
from .locations import Location, prepare
from .migrate import bring_up_to_date, check_version, version_of
from .tables import Tables, tables
from .watch import Watcher

logger = logging.getLogger("workflow_world.sql")

T = TypeVar("T")
Synchronous: TypeAlias = Literal["full", "normal"]

BUSY_TIMEOUT_MS: Final = 5_000
_READERS: Final = 4
_BUSY_FIRST_S: Final = 0.0005
_BUSY_MAX_S: Final = 0.01
_BUSY_GIVE_UP_S: Final = 30.0
_JOURNAL_LIMIT: Final = 64 << 20


class Database:
    """Shared by every World of the process on one URL; see ``workflow_world.sql.open_backend``.

    Opening is lazy, happens once however many threads ask, and is tried again after a failure.
    """

    def __init__(
        self,
        location: Location,
        *,
        clock: Clock,
        prefix: str,
        synchronous: Synchronous,
        auto_migrate: bool,
        engine: Engine | None,
    ) -> None:
        self.location, self.clock = location, clock
        self.tables: Tables = tables(prefix)
        self.hub = Hub(clock)
        self.heads = Heads()
        self.commits = 0
        self._prefix, self._auto_migrate = prefix, auto_migrate
        self._synchronous: Synchronous = synchronous
        self._given_engine = engine
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._is_open = False
        self._writer: PoolProxiedConnection | None = None
        self._anchor: PoolProxiedConnection | None = None
        self._local = threading.local()
        self._reader_connections: list[PoolProxiedConnection] = []
        self._writes = Lane("workflow-world-writer", self._transact, threads=1, max_batch=256)
        self._reads = Lane("workflow-world-reader", self._look, threads=_READERS, max_batch=16)
        self._watcher: Watcher | None = None

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def engine(self) -> Engine:
        assert self._engine is not None, "the database is not open"
        return self._engine

    @property
    def dialect(self) -> Dialect:
        return self.engine.dialect

    def connectable(self) -> Engine:
        """An engine of its own on this database, for the caller to dispose of.

        Raises: BackendError when the location cannot be a database.
        """
        if self.location.path is not None:
            prepare(self.location.path, create=self._auto_migrate)
        return self._make_engine()

    async def open(self) -> None:
        """Connect and migrate or check. Raises: BackendError, SchemaError."""
        if not self._is_open:
            await asyncio.to_thread(self.open_blocking)

    def open_blocking(self) -> None:
        with self._opening:
            if self._is_open:
                return
            if self.location.path is not None and self._given_engine is None:
                prepare(self.location.path, create=self._auto_migrate)
            engine = self._given_engine or self._make_engine()
            try:
                with translated():
                    self._anchor = _retrying(engine.raw_connection)
                    self._bring_up(engine)
            except BaseException:
                if self._anchor is not None:
                    self._anchor.close()
                    self._anchor = None
                if engine is not self._given_engine:
                    engine.dispose()
                raise
            self._engine = engine
            if self.location.path is not None:
                self._watcher = Watcher(self, self._watch_connection)
                self._watcher.start()
            self._is_open = True

    def close(self) -> None:
        """Blocking; the database may be used again afterwards by opening it again."""
        with self._opening:
            self._writes.close()
            self._reads.close()
            if self._watcher is not None:
                self._watcher.stop()
            for connection in (self._writer, self._anchor, *self._reader_connections):
                if connection is not None:
                    with contextlib.suppress(Exception):
                        connection.close()
            if self._engine is not None and self._engine is not self._given_engine:
                self._engine.dispose()
            # The readers' threads ended with their cursors: the next ones make their own.
            self._local, self._reader_connections = threading.local(), []
            self._writer = self._anchor = None
            self._is_open = False

    async def write(self, operation: Operation[T]) -> T:
        """Run the operation in a write transaction shared with others. See ``Lane.submit``."""
        return await self._writes.submit(operation)

    def write_blocking(self, operation: Operation[T]) -> T:
        return self._writes.submit_blocking(operation)

    async def read(self, operation: Operation[T]) -> T:
        """Run the operation in a read transaction: one consistent instant, after this call."""
        return await self._reads.submit(operation)

    def _look(self, jobs: Sequence[Job[Any]]) -> None:
        with translated():
            cursor = self._reader_cursor()
            session = Session(cursor, self.dialect)
            cursor.execute("BEGIN")
            try:
                for job in jobs:
                    try:
                        with translated():
                            job.run(session)
                    except Exception as error:
                        job.error = error
            finally:
                cursor.execute("COMMIT")

    def _reader_cursor(self) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor | None = getattr(self._local, "cursor", None)
        if cursor is None:
            connection = self.engine.raw_connection()
            self._reader_connections.append(connection)
            cursor = self._local.cursor = cast("sqlite3.Cursor", connection.cursor())
        return cursor

    def look_for_others(self) -> None:
        """Have the lane notice other connections' commits: it knows its own apart."""
        self._writes.post(lambda session: None)

    def _watch_connection(self) -> sqlite3.Connection:
        """A connection for the watcher's thread alone; ``close`` gives it back."""
        connection = self.engine.raw_connection()
        self._reader_connections.append(connection)
        return cast("sqlite3.Connection", connection.driver_connection)

    # --- writing -------------------------------------------------------------------------

    def _transact(self, jobs: Sequence[Job[Any]]) -> None:
        """Optimistic: no savepoints. If an operation fails, undo all, then run each in its own."""
        with translated():
            cursor = self._writer_cursor()
            try:
                self._begin(cursor)
                session = Session(cursor, self.dialect)
                for job in jobs:
                    job.run(session)
                faults.point("before commit")
                cursor.execute("COMMIT")
                self.commits += 1
            except Exception:
                self._roll_back(cursor)
                if len(jobs) == 1:
                    raise
                self._transact_apart(self._writer_cursor(), jobs)
            # Outside: what was committed must not run again, whatever fails now.
            faults.point("after commit")

    def _transact_apart(self, cursor: sqlite3.Cursor, jobs: Sequence[Job[Any]]) -> None:
        """The same batch once more, a savepoint around each, so that one failure is one failure."""
        try:
            self._begin(cursor)
            for job in jobs:
                cursor.execute("SAVEPOINT one")
                try:
                    with translated():
                        job.run(Session(cursor, self.dialect))
                except Exception as error:
                    job.error = error
                    cursor.execute("ROLLBACK TO one")
                    self.heads.forget()
                cursor.execute("RELEASE one")
            cursor.execute("COMMIT")
            self.commits += 1
        except Exception:
            self._roll_back(cursor)
            raise

    def _begin(self, cursor: sqlite3.Cursor) -> None:
        _retrying(lambda: cursor.execute("BEGIN IMMEDIATE"))
        if self.heads.begin(cursor.execute("PRAGMA data_version").fetchone()[0]):
            self.hub.notify_all()

    def _roll_back(self, cursor: sqlite3.Cursor) -> None:
        self.heads.forget()
        try:
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is beyond use; the next batch opens another.
            if self._writer is not None:
                self._writer.invalidate()
                self._writer = None

    def _writer_cursor(self) -> sqlite3.Cursor:
        if self._writer is None:
            self._writer = self.engine.raw_connection()
            # SQLite's own busy handler backs off to 100 ms and starves some of many writers
            # (measured); the jittered retry of ``_begin`` keeps shares even.
            self._writer.cursor().execute("PRAGMA busy_timeout=0")
        return cast("sqlite3.Cursor", self._writer.cursor())

    # --- opening -------------------------------------------------------------------------

    def _make_engine(self) -> Engine:
        engine = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=_READERS + 4,
            max_overflow=-1,
        )
        install_begin(engine)
        return engine

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.location.connect,
            uri=True,
            timeout=BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            configure(connection, self._synchronous)
        except BaseException:
            connection.close()
            raise
        return connection

    def _bring_up(self, engine: Engine) -> None:
        """Look before anything is altered: a database that is refused stays as it is."""
        with engine.connect().execution_options(ro=True) as connection:
            if self._auto_migrate:
                version_of(connection, self._prefix)
            else:
                check_version(connection, self._prefix)
        if self.location.path is not None:
            # WAL is a property of the file, and stays.
            anchor = cast("PoolProxiedConnection", self._anchor)
            _retrying(lambda: anchor.cursor().execute("PRAGMA journal_mode=WAL"))
        if self._auto_migrate:
            _retrying(lambda: bring_up_to_date(engine, self._prefix))


def install_begin(engine: Engine) -> None:
    """SQLAlchemy transactions take SQLite's write lock at once: never an upgrade from a read."""

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        read_only = connection.get_execution_options().get("ro")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def configure(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    """The pragmas of every connection; the busy timeout first, for the others may have to wait."""
    execute = connection.execute
    execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    execute(f"PRAGMA synchronous={synchronous.upper()}")
    execute("PRAGMA foreign_keys=ON")
    execute(f"PRAGMA journal_size_limit={_JOURNAL_LIMIT}")


@contextlib.contextmanager
def translated() -> Generator[None]:
    """Driver errors become BackendError; the message never holds a parameter."""
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


def backend_error(error: sqlite3.Error) -> BackendError:
    """One clear line, with what to do where that is known."""
    reason = str(error)
    code = "CONSTRAINT" if isinstance(error, sqlite3.IntegrityError) else "BACKEND"
    hints = {
        "disk is full": "free some space; nothing was written",
        "readonly": "the file or its directory is read-only; nothing was written",
        "unable to open": "check that the directory exists and may be written to",
        "not a database": "the file was left as it is; name another",
        "malformed": "restore a backup, or run PRAGMA integrity_check on a copy",
        "locked": "another process holds the write lock; try again",
        "too big": "the value is over SQLite's limit of 1 GB",
    }
    hint = next((text for mark, text in hints.items() if mark in reason), None)
    return BackendError(f"SQLite: {reason}" + (f" ({hint})" if hint else ""), code=code)


def _retrying(action: Callable[[], T]) -> T:
    """Retry while another process holds the lock, with jitter, for up to 30 s."""
    deadline, pause = time.monotonic() + _BUSY_GIVE_UP_S, _BUSY_FIRST_S
    while True:
        try:
            return action()
        except Exception as error:
            original = getattr(error, "orig", error)
            if not _is_busy(original) or time.monotonic() > deadline:
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
        pause = min(pause * 1.5, _BUSY_MAX_S)


def _is_busy(error: object) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
