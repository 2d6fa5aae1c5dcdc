"""One SQLite database of this process: its write lane, its read lane, its wake-ups."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.pool import PoolProxiedConnection

from ...backend import Capabilities
from ...clock import Clock
from ...errors import BackendError, WorldError
from ...forks import Gate
from ..database import FEW_EVENTS, Database
from ..heads import Heads
from ..lane import NO_LOCKS, Job, Lane, Locks, Operation
from ..migrate import bring_up_to_date, check_version, version_of
from ..near_lane import NearLane
from ..tables import tables
from .connections import Synchronous, engine_on, retrying, translated, use_wal
from .locations import Location, prepare
from .opened import Opened
from .presence import FilePresence, announce
from .session import GlancingSession, SqliteSession
from .watch import Watcher
from .writer import Writer

T = TypeVar("T")

_READERS: Final = 4
_MAX_BATCH: Final = 256
_GLANCERS: Final = itertools.count(1)
"""Numbers for the connections that only look: in a child of this process they go on."""


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
    few_events = FEW_EVENTS
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
        self._start()

    def _start(self) -> None:
        self.heads = self._heads = Heads()
        self._opened = Opened(self._engine, self.location)
        self.writer = self._new_writer()
        self._local = threading.local()
        self.gate = Gate()
        self._glance = threading.Lock()
        self._glancer: sqlite3.Cursor | None = None
        self._glancer_number = 0
        self._writes = self._writing_lane()
        self._reads = (self._lane or Lane)(
            "workflow-world-reader", self._gated(self._look), threads=_READERS, max_batch=16
        )
        self._watcher: Watcher | None = None

    def _new_writer(self, kind: Callable[..., Writer] = Writer) -> Writer:
        return kind(
            self._opened,
            self._synchronous,
            session=self._session,
            heads=self._heads,
            others_wrote=lambda: self.hub.notify_all(),
        )

    def _writing_lane(self) -> Lane:
        name, transact = "workflow-world-writer", self._gated(self.writer.transact)
        if self._lane is not None:
            return self._lane(name, transact, threads=1, max_batch=_MAX_BATCH)
        return NearLane(
            name, transact, at_once=self._transact_at_once, max_batch=_MAX_BATCH, alone=True
        )

    def _transact_at_once(self, jobs: Sequence[Job[Any]]) -> bool:
        with self.gate:
            return self.writer.transact_at_once(jobs)

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
        self._opened.leave_alone()  # in memory; those on a file were closed
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
                self._bring_up(retrying(self._opened.connect), revision)
        except BaseException:
            self._disconnect()
            raise
        if self.location.path is not None:
            self._opened.settle_on_file()
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
            self._is_open = False
            self._opened.leave_file()
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
        found = self._glanced(operation, whole)
        if found is None:
            return await self.read(operation)
        # Whoever polls must not hold up the event loop. And handlers that begin in one turn all
        # look before the first of them computes: a replay empties the processor's caches, and
        # then the same takes twice as long (measured: 100 runs at once are 5 % faster this way).
        await asyncio.sleep(0)
        return found[0]

    def _glanced(self, operation: Operation[T], whole: bool) -> tuple[T] | None:
        """None: it was not possible at once."""
        if not self._glance.acquire(blocking=False):
            return None
        try:
            if self._is_open:
                with self.gate, translated():
                    return (self._glance_at(operation, whole),)
        except BackendError:
            pass  # the read lane tells what is wrong, or waits
        finally:
            self._glance.release()
        return None

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
            self._glancer = self._opened.cursor()
            self._glancer_number = next(_GLANCERS)
            self._glancer.execute("PRAGMA busy_timeout=0")
        return self._glancer

    def look_for_others(self) -> None:
        """Notice other processes' commits."""
        with contextlib.suppress(WorldError):
            if not self._writes.between(self.writer.notice):
                self._writes.touch()

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
            cursor = self._local.cursor = self._opened.cursor()
        return cursor

    def _session(self, cursor: sqlite3.Cursor) -> SqliteSession:
        return SqliteSession(cursor, self.dialect, self.clock.now)

    def _watch_connection(self) -> sqlite3.Connection:
        return self._opened.cursor().connection

    def _disconnect(self) -> None:
        self._opened.close()
        self.writer.forget()
        self._glancer = None

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
