"""Batches of reads: each sees one instant."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import psycopg
from sqlalchemy.engine import Dialect

from ...errors import WorldClosedError
from ..lane import Job
from ..outages import Unreachable
from ..server_clock import ServerClock
from .connections import Connection, Pool, local_timeouts, run_sql
from .errors import translated
from .options import Options
from .session import PostgresSession
from .sets import Sets
from .writes import repeated

_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Reads:
    """The read lanes' work. A read may always be done again."""

    def __init__(self, pool: Pool, dialect: Dialect, clock: ServerClock, options: Options) -> None:
        self._pool, self._sets, self._clock = pool, Sets(dialect), clock
        self._pooler = options.transaction_pooler
        self._opening = [_BEGIN.encode()]
        if self._pooler:
            self._opening.append(f"SELECT {local_timeouts(options)}".encode())

    def look(self, jobs: Sequence[Job[Any]]) -> None:
        """All of them in one transaction; if one fails, each in its own."""
        try:
            with translated():
                repeated(lambda connection: self._in_transaction(connection, jobs), self._pool)
        except (Unreachable, WorldClosedError):
            raise
        except Exception as error:
            if len(jobs) == 1:
                raise
            del error
            for job in jobs:
                self._alone(job)

    def glance(self, jobs: Sequence[Job[Any]]) -> None:
        """Each is one statement, which is a transaction by itself."""
        if self._pooler:
            # Without a transaction our timeouts would not hold.
            self.look(jobs)
            return
        with translated():
            for job in jobs:
                repeated(partial(self._run, job), self._pool)

    def _run(self, job: Job[Any], connection: Connection) -> None:
        job.run(self._session(connection))

    def _alone(self, job: Job[Any]) -> None:
        try:
            self.look([job])
        except Exception as error:
            job.error = error

    def _in_transaction(self, connection: Connection, jobs: Sequence[Job[Any]]) -> None:
        session = self._session(connection, self._opening)
        try:
            for job in jobs:
                job.run(session)
            session.end(["COMMIT"])
        except psycopg.Error:
            if not connection.closed:
                run_sql(connection, "ROLLBACK")
            raise

    def _session(self, connection: Connection, opening: Sequence[bytes] = ()) -> PostgresSession:
        return PostgresSession(connection, self._sets, self._clock.now, opening=opening)
