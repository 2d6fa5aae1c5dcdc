"""Batches of operations on a remote database, bounded by the time for which they hold the lock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ... import faults
from ...errors import PayloadTooLargeError
from ..lane import Job
from ..outages import UNKNOWN_OUTCOME, Unreachable
from .errors import is_refusal, is_too_many, ours
from .session import LibsqlSession
from .transactions import Transactions

LOCKED_S: Final = 1.0
"""A server takes the lock away from who holds it for five seconds while another one waits."""

_AHEAD: Final = 64
"""Operations whose reads are one request."""


class Batches:
    """The lanes' work."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def look(self, jobs: Sequence[Job[Any]]) -> None:
        for job in jobs:
            try:
                self._transactions.read(job.run)
            except Exception as error:
                job.error = ours(error)

    def transact(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
        """One transaction. It is optimistic: no savepoints. If an operation fails, undo all, then
        run each in its own.

        Returns: those for which there was no time.
        """
        batch = _Batch(jobs)
        try:
            self._transactions.write(batch.together)
        except Exception as error:
            self._failed(batch, error)
        # Outside: what was committed must not run again, whatever fails now.
        faults.point("after commit")
        return [*batch.again, *jobs[max(batch.count, 1) :]]

    def _failed(self, batch: _Batch, error: Exception) -> None:
        found = ours(error)
        if isinstance(found, Unreachable) or is_refusal(error):
            batch.count = len(batch.jobs)  # nor could any of the others be written
        elif len(batch.jobs) > 1 and getattr(found, "code", None) != UNKNOWN_OUTCOME:
            try:
                self._transactions.write(batch.apart)
                return
            except Exception as again:
                found = ours(again)
                if isinstance(found, PayloadTooLargeError) and batch.count > 1:
                    # The request of the last one; it took the others' transaction with it.
                    *batch.again, last = batch.jobs[: batch.count]
                    last.error = found
                    return
        # Where not even a connection could be had, none was begun.
        for job in batch.jobs[: max(batch.count, 1)]:
            job.error = found


class _Batch:
    """``count``: how many of the jobs have been begun; ``again``: those of them to be run again."""

    def __init__(self, jobs: Sequence[Job[Any]]) -> None:
        self.jobs, self.count = jobs, 0
        self.again: list[Job[Any]] = []

    def together(self, session: LibsqlSession) -> None:
        self.count, until = 0, 0.0
        for job in self._ahead(session):
            # From the first answer on: what was read ahead is not read in vain.
            until = until or time.monotonic() + LOCKED_S
            self.count += 1
            session.run_job(job)
            if time.monotonic() > until:
                break

    def _ahead(self, session: LibsqlSession) -> Iterator[Job[Any]]:
        for first in range(0, len(self.jobs), _AHEAD):
            yield from session.ahead_of(self.jobs[first : first + _AHEAD])

    def apart(self, session: LibsqlSession) -> None:
        """A savepoint around each, so that one failure is one failure."""
        self.count, until = 0, time.monotonic() + LOCKED_S
        for job in self.jobs:
            self.count += 1
            session.savepoint()
            proof = session.proof
            try:
                session.run_job(job)
                session.flush()
            except Exception as error:
                if not session.in_transaction or is_too_many(error):
                    raise  # the server undid everything, or all of it is run more carefully
                job.error = ours(error)
                session.undo(proof)
            session.release()
            if time.monotonic() > until:
                break
