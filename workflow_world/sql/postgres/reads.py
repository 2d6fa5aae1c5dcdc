"""Batches of reads: each sees one instant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Final

import psycopg
from sqlalchemy.engine import Dialect

from ...errors import WorldClosedError
from ...server_clock import ServerClock
from ..lane import Job
from ..near_lane import Rest
from ..outages import Unreachable
from .connections import Connection, Pool, local_timeouts, roll_back, waiter_of, wire_of
from .errors import translated
from .options import Options
from .session import PostgresSession
from .sets import Sets
from .wire import StillWaiting
from .writes import repeated

_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Reads:
    """The read lanes' work. A read may always be done again."""

    def __init__(self, pool: Pool, dialect: Dialect, clock: ServerClock, options: Options) -> None:
        self._pool, self._sets, self._clock = pool, Sets(dialect), clock
        self._opening = [_BEGIN.encode()]
        if options.transaction_pooler:
            self._opening.append(f"SELECT {local_timeouts(options)}".encode())

    def look(self, jobs: Sequence[Job[Any]]) -> None:
        """All of them in one transaction; if one fails, each in its own."""
        self._run(jobs, self._in_transaction)

    def glance(self, jobs: Sequence[Job[Any]]) -> None:
        """The same for those that mostly read once: in one round trip then."""
        self._run(jobs, self._in_one_trip)

    def glance_at_once(self, jobs: Sequence[Job[Any]]) -> bool | Rest:
        """``glance`` on an event loop's thread. Returns: False when it failed, or what does it
        again when the server takes long."""
        with ExitStack() as stack:
            connection = stack.enter_context(self._pool.idle())
            if connection is None:
                return False
            try:
                with waiter_of(connection).near():
                    self._in_one_trip(connection, jobs)
            except StillWaiting:
                return partial(self._again, stack.pop_all(), connection)
            except Exception:
                return False
        return True

    def _again(self, held: ExitStack, connection: Connection, jobs: Sequence[Job[Any]]) -> None:
        """``held`` is the connection: what it is waiting for comes first, and is for nobody."""
        with held:
            with suppress(psycopg.Error):
                wire_of(connection).go_on()
            roll_back(connection)
        self.glance(jobs)

    def _run(
        self,
        jobs: Sequence[Job[Any]],
        read: Callable[[Connection, Sequence[Job[Any]]], None],
    ) -> None:
        try:
            with translated():
                repeated(lambda connection: read(connection, jobs), self._pool)
        except (Unreachable, WorldClosedError):
            raise
        except Exception as error:
            if len(jobs) == 1:
                raise
            del error
            for job in jobs:
                try:
                    self._run([job], read)
                except Exception as failure:
                    job.error = failure

    def _in_one_trip(self, connection: Connection, jobs: Sequence[Job[Any]]) -> None:
        try:
            left = self._session(connection).run_reads_once(jobs)
        except psycopg.Error:
            roll_back(connection)
            raise
        if left:
            self._in_transaction(connection, left)

    def _in_transaction(self, connection: Connection, jobs: Sequence[Job[Any]]) -> None:
        session = self._session(connection)
        try:
            session.run_reads(jobs)
            session.end(["COMMIT"])
        except psycopg.Error:
            roll_back(connection)
            raise

    def _session(self, connection: Connection) -> PostgresSession:
        now = self._clock.now
        return PostgresSession(connection, self._sets, now, opening=self._opening)
