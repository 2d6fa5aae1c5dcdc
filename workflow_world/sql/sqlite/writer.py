"""The one connection that writes: a batch of operations is one transaction on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast

from sqlalchemy.pool import PoolProxiedConnection

from ... import faults
from ...errors import BackendError
from ..heads import Heads
from ..lane import Job
from ..outages import UNKNOWN_OUTCOME
from .connections import Synchronous, retrying, translated
from .opened import Opened
from .session import SqliteSession

_Jobs: TypeAlias = Sequence[Job[Any]]
_Take: TypeAlias = Callable[[Callable[[], object]], object]
"""How a lock is taken that another process may hold: with patience, or not."""

_IN_DOUBT: Final = (
    "the flush of a commit failed; what it wrote is undone, but may be there when the file is "
    "opened anew (check the disk)"
)


def at_once(action: Callable[[], object]) -> None:
    """Without patience. See ``retrying``."""
    action()


class Writer:
    """For one thread at a time. It connects when it is needed.

    ``session`` makes what operations get; ``others_wrote`` is called when commits of other
    connections are noticed, and ``heads`` then forgets what it knows.

    Attributes:
        begun: transactions, ever.
        commits: of them, those that changed something.
    """

    def __init__(
        self,
        opened: Opened,
        synchronous: Synchronous,
        *,
        session: Callable[[sqlite3.Cursor], SqliteSession],
        heads: Heads,
        others_wrote: Callable[[], None],
    ) -> None:
        self._opened, self._synchronous = opened, synchronous
        self._session, self._heads, self._others_wrote = session, heads, others_wrote
        self._connection: PoolProxiedConnection | None = None
        self._changes = self.begun = self.commits = 0
        self._flushes, self._in_doubt = True, False

    def forget(self) -> None:
        """Its connection was closed."""
        self._connection = None

    def notice(self) -> bool:
        """Look for other connections' commits, apart from its own. Returns: whether it could."""
        if self._connection is None:
            return False
        try:
            self._compare(self._cursor())
        except sqlite3.Error:
            return False
        return True

    def transact(self, jobs: _Jobs) -> None:
        """Optimistic: no savepoints. If an operation fails, undo all, then run each in its own."""
        try:
            self._transact(jobs)
        except Exception as error:
            if self._in_doubt and getattr(error, "code", None) != UNKNOWN_OUTCOME:
                raise BackendError(f"{error}; {_IN_DOUBT}", code=UNKNOWN_OUTCOME) from error
            raise
        finally:
            self._in_doubt = False

    def _transact(self, jobs: _Jobs) -> None:
        with translated():
            cursor = self._cursor()
            try:
                self._attempt(cursor, jobs, retrying)
            except Exception:
                self._roll_back(cursor)
                if len(jobs) == 1:
                    raise
                self._transact_apart(self._cursor(), jobs)
            except BaseException:
                self._roll_back(cursor)
                raise
            # Outside: what was committed must not run again, whatever fails now.
            faults.point("after commit")

    def transact_at_once(self, jobs: _Jobs) -> bool:
        """One attempt that waits for no lock. Returns: False when it failed, and all is undone."""
        if self._connection is None:
            return False  # to connect is for the lane's thread
        cursor = self._cursor()
        try:
            self._attempt(cursor, jobs, at_once)
        except Exception:
            self._roll_back(cursor)
            return False
        except BaseException:
            self._roll_back(cursor)
            raise
        faults.point("after commit")
        return True

    def _attempt(self, cursor: sqlite3.Cursor, jobs: _Jobs, take: _Take) -> None:
        self._flush(cursor, not all(job.repeatable for job in jobs))
        self._begin(cursor, take)
        session = self._session(cursor)
        for job in jobs:
            job.run(session)
        self._commit(cursor, take)

    def _transact_apart(self, cursor: sqlite3.Cursor, jobs: _Jobs) -> None:
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

    def _compare(self, cursor: sqlite3.Cursor) -> None:
        if self._heads.begin(cursor.execute("PRAGMA data_version").fetchone()[0]):
            self._others_wrote()

    def _commit(self, cursor: sqlite3.Cursor, take: _Take) -> None:
        faults.point("before commit")
        self._opened.check_place()
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
            self._let_go()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._opened.drop(connection)
            # Another connection counts others' commits anew: there may have been some.
            self._others_wrote()

    def _cursor(self) -> sqlite3.Cursor:
        if self._connection is None:
            self._connection, self._flushes = self._opened.connect(), True
            # SQLite's own busy handler backs off to 100 ms and starves some of many writers
            # (measured); the jittered retry of ``_begin`` keeps shares even.
            self._connection.cursor().execute("PRAGMA busy_timeout=0")
        return cast("sqlite3.Cursor", self._connection.cursor())
