"""Batches of writes: one transaction each, once more where that is safe, apart where one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg

from ... import faults
from ...errors import BackendError, WorldClosedError
from ..lane import Job
from ..near_lane import Rest
from ..outages import UNKNOWN_OUTCOME, NotApplied, Retry, Unreachable
from .connections import Connection, Pool, waiter_of
from .errors import BLOCKED, STALE, is_lost, is_passing, lost_again, translated
from .transaction import Transaction, Transactions
from .wire import StillWaiting

T = TypeVar("T")


class _Lost(Exception):
    """The connection is gone, and with it all that was not committed."""


def repeated(action: Callable[[Connection], T], pool: Pool) -> T:
    """The action on a connection; on another one while connections are lost or refused, and again
    while another transaction was first. So it must have written nothing when it raises.

    Raises: what the action raises; ``Unreachable`` once patience is at its end.
    """
    retry, renewed = Retry(), False
    while True:
        try:
            with pool.connection() as connection, _noticing_loss(connection):
                return action(connection)
        except (_Lost, NotApplied) as error:
            pool.forget_idle()
            if not retry.after_loss():
                raise lost_again(error) from error
        except Unreachable:
            if not retry.after_loss():
                raise
        except psycopg.Error as error:
            if error.sqlstate in STALE and not renewed:
                renewed = True
                pool.forget_idle()
            elif not is_passing(error) or not retry.after_conflict():
                raise


@contextmanager
def _noticing_loss(connection: Connection) -> Generator[None]:
    try:
        yield
    except psycopg.Error as error:
        if is_lost(error, connection):
            raise _Lost from error
        if error.sqlstate in STALE:
            connection.close()
        raise


class Writes:
    """The write lanes' work."""

    def __init__(self, pool: Pool, transactions: Transactions) -> None:
        self._pool, self._transactions = pool, transactions

    def transact(self, jobs: Sequence[Job[Any]]) -> None:
        """Optimistic: no savepoints. If an operation fails, undo all, then run each in its own."""
        with translated():
            try:
                self._together(jobs)
            except (Unreachable, WorldClosedError):
                raise
            except Exception as error:
                if len(jobs) == 1 or getattr(error, "code", None) == UNKNOWN_OUTCOME:
                    raise
                self._apart(jobs)
            # Outside: what was committed must not run again, whatever fails now.
            faults.point("after commit")

    def transact_each(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
        """The same, but none waits for a lock for longer than a moment.

        Returns: those that would have had to, and are undone.
        """
        with translated():
            blocked: list[Job[Any]] = []
            try:
                self._repeat(lambda transaction: transaction.run(jobs), near=True)
            except (Unreachable, WorldClosedError):
                raise
            except Exception as error:
                if getattr(error, "code", None) == UNKNOWN_OUTCOME:
                    raise
                blocked = self._hurried(jobs)
            faults.point("after commit")
        return blocked

    def transact_at_once(self, jobs: Sequence[Job[Any]]) -> bool | Rest:
        """One attempt, on an event loop's thread. Returns: False when it failed, and all is undone;
        or what goes on with it when the server takes long."""
        with ExitStack() as stack:
            connection = stack.enter_context(self._pool.idle())
            if connection is None:
                return False  # to connect is for a lane's thread
            transaction = self._transactions.begin(connection, careful=False, near=True)
            with waiter_of(connection).near():
                try:
                    find_out = self._try(transaction, jobs)
                except StillWaiting:
                    find_out = transaction.give_up
                except Exception:
                    return False
                except BaseException:
                    connection.close()
                    raise
            if find_out is not None:
                return partial(self._end, stack.pop_all(), transaction, find_out)
        faults.point("after commit")
        return True

    def _try(self, transaction: Transaction, jobs: Sequence[Job[Any]]) -> Callable[[], None] | None:
        """Raises: where nothing was committed. After StillWaiting there is ``give_up``, for an
        error may come late, and the end of what it undoes later still."""
        try:
            transaction.run(jobs)
            return transaction.commit_at_once()
        except StillWaiting:
            raise
        except Exception:
            transaction.roll_back()
            raise

    def _end(
        self,
        held: ExitStack,
        transaction: Transaction,
        find_out: Callable[[], None],
        jobs: Sequence[Job[Any]],
    ) -> None:
        """``held`` is the connection; what ``find_out`` says was not committed is done again."""
        with held:
            try:
                find_out()
            except (NotApplied, psycopg.Error, BackendError) as error:
                if getattr(error, "code", None) == UNKNOWN_OUTCOME:
                    raise
                transaction.roll_back()
            else:
                faults.point("after commit")
                return
        self.transact(jobs)

    def _together(self, jobs: Sequence[Job[Any]]) -> None:
        self._repeat(lambda transaction: transaction.run(jobs))

    def _apart(self, jobs: Sequence[Job[Any]]) -> None:
        """The same batch once more, so that one failure is one failure."""
        until = None
        for job in self._hurried(jobs):
            # It only had no time to wait. All of them together wait as long as one may.
            until = until or time.monotonic() + self._transactions.lock_timeout_s
            if time.monotonic() > until:
                continue
            try:
                with translated():
                    self._together([job])
            except Exception as error:
                job.error = error

    def _hurried(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
        """A savepoint around each. Returns: those that another transaction was in the way of."""

        def run(transaction: Transaction) -> list[Job[Any]]:
            transaction.hurry()
            return [job for job in jobs if not self._alone(transaction, job)]

        return self._repeat(run, careful=True)

    def _alone(self, transaction: Transaction, job: Job[Any]) -> bool:
        """False: another transaction was in its way, and it is undone; its error says so."""
        was_blocked = False
        transaction.execute("SAVEPOINT one")
        proof = transaction.session.proof
        try:
            with translated():
                transaction.run([job])
                transaction.session.flush()
        except Exception as error:
            if transaction.connection.closed:
                # As the driver said it: a connection that is lost is a reason to do it all again.
                cause = error.__cause__
                raise (cause if isinstance(cause, psycopg.Error) else error) from None
            was_blocked = getattr(error.__cause__, "sqlstate", None) in BLOCKED
            job.error = error
            transaction.session.undone(proof)
            transaction.execute("ROLLBACK TO SAVEPOINT one")
        transaction.execute("RELEASE SAVEPOINT one")
        return not was_blocked

    def _repeat(
        self, run: Callable[[Transaction], T], *, careful: bool = False, near: bool = False
    ) -> T:
        def once(connection: Connection) -> T:
            nonlocal careful
            transaction = self._transactions.begin(connection, careful=careful, near=near)
            # Another time another transaction may have been the first.
            careful = True
            try:
                result = run(transaction)
                transaction.commit()
            except BaseException:
                transaction.roll_back()
                raise
            return result

        return repeated(once, self._pool)
