"""One SQLite database of this process: its write lane, its read lane, its wake-ups."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, TypeAlias, TypeVar, cast

from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import PoolProxiedConnection

from ... import faults
from ...backend import Capabilities
from ...clock import Clock
from ...errors import BackendError, WorldError
from ..database import Database
from ..forks import Gate, leave_alone
from ..heads import Heads
from ..lane import NO_LOCKS, Job, Lane, Locks, Operation
from ..migrate import bring_up_to_date, check_version, version_of
from ..near_lane import NearLane
from ..outages import UNKNOWN_OUTCOME
from ..tables import tables
from .connections import Synchronous, engine_on, retrying, translated, use_wal
from .locations import Location, identity, prepare
from .presence import FilePresence, announce
from .session import GlancingSession, SqliteSession
from .watch import Watcher

T = TypeVar("T")

_READERS: Final = 4
_MAX_BATCH: Final = 256
_GLANCERS: Final = itertools.count(1)
"""Numbers for the connections that only look: in a child of this process they go on."""


_Take: TypeAlias = Callable[[Callable[[], object]], object]
"""How a lock is taken that another process may hold: with patience, or not."""


def _at_once(action: Callable[[], object]) -> None:
    action()


_IN_DOUBT: Final = (
    "the flush of a commit failed; what it wrote is undone, but may be there when the file is "
    "opened anew (check the disk)"
)
_MAX_CHUNK: Final = 512 << 20
_MAX_VALUE: Final = 256 << 20
"""SQLite takes rows of 10**9 bytes, and that of a step has its input, output and last error."""

_CAPABILITIES: Final = Capabilities(
    name="sqlite",
    durable=True,
    cross_process=True,
    notifies_processes=True,
    constraints=True,
    max_chunk_bytes=_MAX_CHUNK,
    max_payload_bytes=_MAX_VALUE,
)
_IN_MEMORY: Final = Capabilities(
    name="sqlite (memory)",
    durable=False,
    cross_process=False,
    constraints=True,
    max_chunk_bytes=_MAX_CHUNK,
    max_payload_bytes=_MAX_VALUE,
)


class SqliteDatabase(Database):
    """One write lane, for SQLite has one writer; see ``Database``."""

    is_near = True
    max_value = _MAX_VALUE

    def __init__(
        self,
        location: Location,
        *,
        clock: Clock,
        prefix: str,
        synchronous: Synchronous,
        auto_migrate: bool,
        engine: Engine | None,
        lane: type[Lane] | None = None,
        watcher: type[Watcher] = Watcher,
    ) -> None:
        """``lane`` and ``watcher`` run what has threads of its own; a simulation has none."""
        super().__init__(tables(prefix), clock=clock)
        self.location = location
        self._prefix, self._auto_migrate = prefix, auto_migrate
        self._synchronous: Synchronous = synchronous
        self._engine = engine_on(location, synchronous, engine)
        self._lane, self._watching = lane, watcher
        self._is_gone = False
        self._file: tuple[int, int] | None = None
        self._start()

    def _start(self) -> None:
        self.heads = self._heads = Heads()
        self.begun = self.commits = self._changes = 0
        self._flushes, self._in_doubt = True, False
        self._writer: PoolProxiedConnection | None = None
        self._connections: list[PoolProxiedConnection] = []
        self._local = threading.local()
        self.gate = Gate()
        self._glance = threading.Lock()
        self._glancer: DBAPICursor | None = None
        self._glancer_number = 0
        self._writes = self._writing_lane()
        self._reads = (self._lane or Lane)(
            "workflow-world-reader", self._gated(self._look), threads=_READERS, max_batch=16
        )
        self._watcher: Watcher | None = None

    def _writing_lane(self) -> Lane:
        name, transact = "workflow-world-writer", self._gated(self._transact)
        if self._lane is not None:
            return self._lane(name, transact, threads=1, max_batch=_MAX_BATCH)
        return NearLane(name, transact, at_once=self._transact_at_once, max_batch=_MAX_BATCH)

    def _gated(self, work: Callable[[Sequence[Job[Any]]], None]) -> Callable[..., None]:
        def run(jobs: Sequence[Job[Any]]) -> None:
            with self.gate:
                work(jobs)

        return run

    def before_fork(self) -> None:
        if self.location.path is not None:
            self._opening.acquire()
            self.gate.close()
            self._let_go()

    def after_fork(self) -> None:
        if self.location.path is not None:
            self.gate.open()
            self._opening.release()

    def _let_go(self) -> None:
        """Close every connection; the next use makes others."""
        self._disconnect()
        self._local = threading.local()
        self._heads.forget()
        if self._watcher is not None:
            self._watcher.forget()

    def forked(self) -> None:
        for connection in self._connections:  # in memory
            leave_alone(connection)
        if self._watcher is not None:
            self._watcher.leave()
        self._is_gone = self.location.path is None and self._is_open
        self._begin_anew()
        self._start()

    @property
    def capabilities(self) -> Capabilities:
        return _IN_MEMORY if self.location.path is None else _CAPABILITIES

    @property
    def engine(self) -> Engine:
        return self._engine

    def translated(self) -> AbstractContextManager[None]:
        return translated()

    def _open(self, revision: str) -> None:
        self.prepare()
        try:
            with translated():
                # One connection stays: it keeps a database in memory alive.
                self._bring_up(retrying(self._connect), revision)
        except BaseException:
            self._disconnect()
            raise
        if self.location.path is not None:
            self._file = identity(self.location.path)
            self._watcher = self._watching(self, self.location.path, self._watch_connection)
            self._watcher.start()

    def prepare(self) -> None:
        """Check the file before SQLite touches it. Raises: BackendError."""
        if self._is_gone:
            raise BackendError(
                "A database in memory stays with the process that opened it: create a World of "
                "its own in a child, or use a file"
            )
        if self.location.path is not None:
            prepare(self.location.path, create=self._auto_migrate)

    def _close(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
        self._writes.close()
        self._reads.close()
        with self._glance:
            self._is_open, self._file = False, None
            self._disconnect()
        self._engine.dispose()

    async def announce(self, free_all: Callable[[], Awaitable[int]]) -> FilePresence:
        return await announce(self.location.path, free_all)

    async def write(
        self,
        operation: Operation[T],
        *,
        repeatable: bool = False,
        unhurried: bool = False,
        locks: Locks = NO_LOCKS,
        then: Callable[[T], None] | None = None,
    ) -> T:
        """A batch of nothing but ``repeatable`` operations is committed without a flush. A later
        flush covers it, for there is one log. ``locks`` say nothing here: one writes at a time.
        """
        return await self._writes.submit(
            operation, repeatable=repeatable, unhurried=unhurried, then=then
        )

    def write_blocking(
        self, operation: Operation[T], *, repeatable: bool = False, locks: Locks = NO_LOCKS
    ) -> T:
        return self._writes.submit_blocking(operation, repeatable=repeatable)

    async def read(self, operation: Operation[T]) -> T:
        return await self._reads.submit(operation)

    async def glance(self, operation: Operation[T], *, whole: bool = False) -> T:
        """It runs on the caller's thread, for a hop to another one costs more than the statement
        (measured: 170 against 40 microseconds). If SQLite would have to wait, it does hop.
        """
        if self._glance.acquire(blocking=False):
            try:
                if self._is_open:
                    with self.gate, translated():
                        return self._glance_at(operation, whole)
            except BackendError:
                pass  # the read lane tells what is wrong, or waits
            finally:
                self._glance.release()
        return await self.read(operation)

    def _glance_at(self, operation: Operation[T], whole: bool) -> T:
        cursor = self._glance_cursor()
        if not whole:
            return operation(self._glancing_session(cursor))
        cursor.execute("BEGIN")
        try:
            return operation(self._session(cursor))
        finally:
            cursor.execute("COMMIT")

    def _glancing_session(self, cursor: sqlite3.Cursor) -> SqliteSession:
        if self.location.path is None:
            return self._session(cursor)  # in memory its connection is the writer's, too
        return GlancingSession(cursor, self.dialect, self.clock.now, self._glancer_number)

    def _glance_cursor(self) -> sqlite3.Cursor:
        if self._glancer is None:
            self._glancer = self._connect().cursor()
            self._glancer_number = next(_GLANCERS)
            self._glancer.execute("PRAGMA busy_timeout=0")
        return cast("sqlite3.Cursor", self._glancer)

    def look_for_others(self) -> None:
        """Notice other connections' commits by the writer's: it knows its own apart."""
        with contextlib.suppress(WorldError):
            if not self._writes.between(self._notice):
                self._writes.touch()

    def _notice(self) -> bool:
        if self._writer is None:
            return False
        try:
            self._compare(self._writer_cursor())
        except sqlite3.Error:
            return False
        return True

    def _compare(self, cursor: sqlite3.Cursor) -> None:
        if self._heads.begin(cursor.execute("PRAGMA data_version").fetchone()[0]):
            self.hub.notify_all()

    # --- reading -------------------------------------------------------------------------

    def _look(self, jobs: Sequence[Job[Any]]) -> None:
        with translated():
            cursor = self._reader_cursor()
            session = self._session(cursor)
            cursor.execute("BEGIN")
            try:
                for job in jobs:
                    try:
                        with translated():
                            job.run(session)
                    except Exception as error:
                        job.error = error
            finally:
                retrying(lambda: cursor.execute("COMMIT"))

    def _reader_cursor(self) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._local.cursor = cast("sqlite3.Cursor", self._connect().cursor())
        return cursor

    # --- writing -------------------------------------------------------------------------

    def _transact(self, jobs: Sequence[Job[Any]]) -> None:
        """Optimistic: no savepoints. If an operation fails, undo all, then run each in its own."""
        try:
            self._transact_now(jobs)
        except Exception as error:
            if self._in_doubt and getattr(error, "code", None) != UNKNOWN_OUTCOME:
                raise BackendError(f"{error}; {_IN_DOUBT}", code=UNKNOWN_OUTCOME) from error
            raise
        finally:
            self._in_doubt = False

    def _transact_now(self, jobs: Sequence[Job[Any]]) -> None:
        with translated():
            cursor = self._writer_cursor()
            try:
                self._attempt(cursor, jobs, retrying)
            except Exception:
                self._roll_back(cursor)
                if len(jobs) == 1:
                    raise
                self._transact_apart(self._writer_cursor(), jobs)
            except BaseException:
                self._roll_back(cursor)
                raise
            # Outside: what was committed must not run again, whatever fails now.
            faults.point("after commit")

    def _transact_at_once(self, jobs: Sequence[Job[Any]]) -> bool:
        """One attempt that waits for no lock. Returns: False when it failed, and all is undone."""
        with self.gate:
            if self._writer is None:
                return False  # to connect is for the lane's thread
            cursor = self._writer_cursor()
            try:
                self._attempt(cursor, jobs, _at_once)
            except Exception:
                self._roll_back(cursor)
                return False
            except BaseException:
                self._roll_back(cursor)
                raise
            faults.point("after commit")
        return True

    def _attempt(self, cursor: sqlite3.Cursor, jobs: Sequence[Job[Any]], take: _Take) -> None:
        self._flush(cursor, not all(job.repeatable for job in jobs))
        self._begin(cursor, take)
        session = self._session(cursor)
        for job in jobs:
            job.run(session)
        self._commit(cursor, take)

    def _transact_apart(self, cursor: sqlite3.Cursor, jobs: Sequence[Job[Any]]) -> None:
        """The same batch once more, a savepoint around each, so that one failure is one failure."""
        try:
            self._flush(cursor, True)
            self._begin(cursor, retrying)
            for job in jobs:
                cursor.execute("SAVEPOINT one")
                try:
                    with translated():
                        job.run(self._session(cursor))
                except Exception as error:
                    if not cursor.connection.in_transaction:
                        raise  # SQLite undid everything, as it does when the disk is full
                    job.error = error
                    cursor.execute("ROLLBACK TO one")
                    self._heads.forget()
                cursor.execute("RELEASE one")
            self._commit(cursor, retrying)
        except BaseException:
            self._roll_back(cursor)
            raise

    def _flush(self, cursor: sqlite3.Cursor, flush: bool) -> None:
        """Whether the coming commit waits for the disk; cannot be set within a transaction."""
        if self._synchronous == "full" and flush != self._flushes:
            cursor.execute(f"PRAGMA synchronous={'FULL' if flush else 'NORMAL'}")
            self._flushes = flush

    def _begin(self, cursor: sqlite3.Cursor, take: _Take) -> None:
        take(lambda: cursor.execute("BEGIN IMMEDIATE"))
        self._changes = cursor.connection.total_changes
        self._compare(cursor)
        self.begun += 1

    def _commit(self, cursor: sqlite3.Cursor, take: _Take) -> None:
        faults.point("before commit")
        self._check_place()
        try:
            # In memory there is no WAL: a commit waits for readers.
            take(lambda: cursor.execute("COMMIT"))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_IOERR_FSYNC:
                raise
            # It is undone, and the next commit overwrites it. Without one it is whole in the WAL.
            self._in_doubt = True
            raise BackendError(f"SQLite: {_IN_DOUBT}", code=UNKNOWN_OUTCOME) from error
        if cursor.connection.total_changes != self._changes:
            self.commits += 1
            self._in_doubt = False

    def _roll_back(self, cursor: sqlite3.Cursor) -> None:
        self._heads.forget()
        try:
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is beyond use. To close it ends whatever it had begun, which would
            # keep every other writer out; the next batch opens another.
            self._let_go_of_writer()

    def _let_go_of_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._connections.remove(writer)
            with contextlib.suppress(Exception):
                writer.invalidate()
            # Another connection counts others' commits anew: there may have been some.
            self.hub.notify_all()

    def _writer_cursor(self) -> sqlite3.Cursor:
        if self._writer is None:
            self._writer, self._flushes = self._connect(), True
            # SQLite's own busy handler backs off to 100 ms and starves some of many writers
            # (measured); the jittered retry of ``_begin`` keeps shares even.
            self._writer.cursor().execute("PRAGMA busy_timeout=0")
        return cast("sqlite3.Cursor", self._writer.cursor())

    def _session(self, cursor: sqlite3.Cursor) -> SqliteSession:
        return SqliteSession(cursor, self.dialect, self.clock.now)

    # --- connections ---------------------------------------------------------------------

    def _check_place(self) -> None:
        """SQLite goes on in a file that was deleted, and whoever opens the place finds another.

        Raises: BackendError.
        """
        if self._file is not None and identity(self.location.path) != self._file:
            raise BackendError(
                f"SQLite: {self.location.path} was deleted or replaced while it was open, and "
                "nothing was written. Put the file back, or close the World and open another"
            )

    def _connect(self) -> PoolProxiedConnection:
        self._check_place()
        connection = self._engine.raw_connection()
        self._connections.append(connection)
        return connection

    def _watch_connection(self) -> sqlite3.Connection:
        return cast("sqlite3.Connection", self._connect().driver_connection)

    def _disconnect(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(Exception):
                connection.close()
        self._connections.clear()
        self._writer = self._glancer = None

    def _bring_up(self, connection: PoolProxiedConnection, revision: str) -> None:
        """Look before anything is altered: a database that is refused stays as it is."""
        with self._engine.connect().execution_options(ro=True) as reader:
            if self._auto_migrate:
                version_of(reader, self._prefix)
            else:
                check_version(reader, self._prefix)
        if self.location.path is not None:
            use_wal(connection)
        if self._auto_migrate:
            retrying(lambda: bring_up_to_date(self._engine, self._prefix, revision))
