"""One write transaction on one connection: how it begins, locks, commits, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, Final

import psycopg
from sqlalchemy import Text, any_, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect

from ... import faults
from ...errors import BackendError
from ...server_clock import ServerClock
from ..compiled import Read, Row, Statement
from ..lane import Job
from ..outages import UNKNOWN_OUTCOME, NotApplied
from ..tables import Tables
from .arrays import Texts
from .connections import Connection, local_timeouts, roll_back, run_sql
from .errors import is_lost, is_unheard
from .options import Options
from .session import PostgresSession, payload_of, quoted
from .sets import Sets
from .wire import StillWaiting

_ASK_S: Final = 10.0
_PAUSE_S: Final = 0.05
_IN_THE_FUTURE: Final = "22023"
_APART_LOCK_TIMEOUT_MS: Final = 250
_NEAR_LOCK_TIMEOUT_MS: Final = 10
_COMMIT: Final = "COMMIT"
_QUIET_S: Final = 60.0
"""For so long nobody is told when the server keeps no more notifications: they poll."""


class Transactions:
    """Begins and ends the write transactions of one database."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        tables: Tables,
        dialect: Dialect,
        clock: ServerClock,
        options: Options,
        *,
        origin: str,
    ) -> None:
        """``channel``, where other processes are told, is set once it is known."""
        self._connect, self._tables = connect, tables
        self._clock, self._options = clock, options
        self.channel, self._origin = "", origin
        # The transaction's number, to ask for it should the answer to COMMIT be lost.
        number = "pg_current_xact_id()::text"
        if options.claim_strategy == "conditional_update":
            number = "NULL"
        asked = [f"{SERVER_TIME}, {number}"]
        if options.transaction_pooler:
            asked.append(local_timeouts(options))
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
        self._opening = begin.encode(), ", ".join(asked).encode()
        asked.append(f"set_config('lock_timeout', '{_NEAR_LOCK_TIMEOUT_MS}', true)")
        self._near_opening = begin.encode(), ", ".join(asked).encode()
        self._sets = Sets(dialect)
        self._quiet_until = 0.0
        self.lock_timeout_s = options.lock_timeout_ms / 1000

    def begin(self, connection: Connection, *, careful: bool, near: bool = False) -> Transaction:
        """It begins with the first statement that is sent. ``careful``: see ``PostgresSession``.
        ``near``: it waits for a lock for a moment only."""
        transaction = Transaction(self, connection)
        transaction.session = PostgresSession(
            connection,
            self._sets,
            self._clock.now,
            opening=self._near_opening if near else self._opening,
            opened=transaction.opened,
            careful=careful,
        )
        return transaction

    def learn(self, milliseconds: int) -> None:
        self._clock.learn(milliseconds)

    # --- locks ---------------------------------------------------------------------------

    def locks(self, jobs: Iterable[Job[Any]]) -> list[Read]:
        """Lock what the jobs are about, in an order that is the same for all: no two batches
        then wait for each other. A lone message is locked by the statement that changes it."""
        runs = {run_id for job in jobs for run_id in job.locks.runs}
        messages = {message_id for job in jobs for message_id in job.locks.messages}
        reads = list[Read]()
        if runs:
            reads.append((self._lock_runs, {"ids": Texts(sorted(runs))}))
        if len(messages) > 1:
            reads.append((self._lock_messages, {"ids": Texts(sorted(messages))}))
        return reads

    @cached_property
    def _lock_runs(self) -> Statement:
        return _locking("lock runs", self._tables.runs.c.run_id)

    @cached_property
    def _lock_messages(self) -> Statement:
        return _locking("lock messages", self._tables.messages.c.message_id)

    # --- the end -------------------------------------------------------------------------

    def commit(self, transaction: Transaction) -> None:
        """Raises: NotApplied, BackendError with code UNKNOWN_OUTCOME, the server's error."""
        last = self._last(transaction)
        self._learn_outcome(transaction, lambda: transaction.session.end(last))

    def commit_at_once(self, transaction: Transaction) -> Callable[[], None] | None:
        """``commit`` on an event loop's thread: when what comes of it is not known at once, it
        returns what finds it out, and raises what ``commit`` does.

        Raises: where nothing was committed.
        """
        last = self._last(transaction)
        try:
            outcome = transaction.session.end(last)
        except StillWaiting:
            return lambda: self._learn_outcome(transaction, transaction.session.ended)
        except psycopg.Error as error:
            if not is_lost(error, transaction.connection):
                self._refused(error)
                raise  # the server answered, and committed nothing
            return partial(self._learn_outcome, transaction, partial(_again, error))
        _check(outcome)
        return None

    def _last(self, transaction: Transaction) -> list[str]:
        """The statements that end it, after what still waits."""
        session = transaction.session
        # COMMIT only goes to a transaction whose number is known: see ``_find_out``.
        session.open()
        faults.point("before commit")
        is_quiet = not self._options.notifies or time.monotonic() < self._quiet_until
        if not session.topics or is_quiet:
            return [_COMMIT]
        return [_telling(self.channel, payload_of(self._origin, session.topics)), _COMMIT]

    def _refused(self, error: psycopg.Error) -> None:
        if is_unheard(error):
            self._quiet_until = time.monotonic() + _QUIET_S

    def _learn_outcome(self, transaction: Transaction, end: Callable[[], str]) -> None:
        """``end`` gives the server's answer to the COMMIT."""
        try:
            outcome = end()
        except psycopg.Error as error:
            if not is_lost(error, transaction.connection):
                self._refused(error)
                raise  # the server answered, and committed nothing
            if transaction.session.wrote:
                self._find_out(transaction, error)
            return
        _check(outcome)

    def _find_out(self, transaction: Transaction, error: psycopg.Error) -> None:
        """The answer to a COMMIT was lost. Returns if the transaction was committed.

        ``aborted`` is certain. ``committed`` could be said of a later transaction, for a server
        that crashed may give a number twice: so a row of ours has to be there, too. A standby that
        took over, or is about to, is asked again until it knows.
        """
        deadline = time.monotonic() + _ASK_S
        while transaction.number is not None and time.monotonic() < deadline:
            try:
                with self._connect() as connection:
                    state = self._state_of(connection, transaction.number)
                    if state == "aborted":
                        raise NotApplied from error
                    if state == "committed" and self._is_proved(connection, transaction):
                        return
                    if state != "in progress":
                        break
            except NotApplied:
                raise
            except Exception:  # noqa: S110
                pass  # also what would be for good: it says nothing of the COMMIT
            time.sleep(_PAUSE_S)
        raise BackendError(
            "Postgres: the connection was lost during COMMIT; what it wrote may be there or not",
            code=UNKNOWN_OUTCOME,
        ) from error

    def _state_of(self, connection: Connection, number: str) -> str | None:
        # Asked first: a standby that is behind may be the primary a moment later.
        is_behind = connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        try:
            row = connection.execute("SELECT pg_xact_status(%s::xid8)", (number,)).fetchone()
        except psycopg.Error as error:
            if error.sqlstate == _IN_THE_FUTURE:
                # This server never heard of it; a standby may still.
                return "in progress" if is_behind else "aborted"
            raise
        return None if row is None else row[0]

    def _is_proved(self, connection: Connection, transaction: Transaction) -> bool:
        proof = transaction.session.proof
        if proof is None:
            return False
        session = PostgresSession(connection, self._sets, self._clock.now)
        statement, values = proof.read
        return session.one(statement, **values) is not None


class Transaction:
    """An open one. ``number`` is the server's for it, where it has such."""

    session: PostgresSession

    def __init__(self, owner: Transactions, connection: Connection) -> None:
        self._owner, self.connection = owner, connection
        self.number: str | None = None

    def opened(self, row: Row) -> None:
        """The server's time and the number have come."""
        self._owner.learn(row[0])
        self.number = row[1]

    def execute(self, sql: str) -> None:
        run_sql(self.connection, sql)

    def run(self, jobs: Sequence[Job[Any]]) -> None:
        """Their locks first, and what they read of locked runs."""
        for job in self.session.ahead_of(jobs, self._owner.locks(jobs)):
            self.session.run_job(job)

    def hurry(self) -> None:
        """From now on wait for a lock for a moment only."""
        self.session.open()
        self.execute(f"SET LOCAL lock_timeout = {_APART_LOCK_TIMEOUT_MS}")

    def commit(self) -> None:
        self._owner.commit(self)

    def commit_at_once(self) -> Callable[[], None] | None:
        return self._owner.commit_at_once(self)

    def give_up(self) -> None:
        """Wait for the answer that is still to come, and undo all. Raises: NotApplied."""
        with suppress(psycopg.Error):
            self.session.ended()
        self.roll_back()
        raise NotApplied

    def roll_back(self) -> None:
        roll_back(self.connection)


def _telling(channel: str, payload: str) -> str:
    return f"NOTIFY {channel}, {quoted(payload)}"


def _check(outcome: str) -> None:
    if outcome != _COMMIT:
        raise BackendError("Postgres: the transaction was undone; nothing was written")


def _again(error: psycopg.Error) -> str:
    raise error


SERVER_TIME: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"


def _locking(name: str, key: Any) -> Statement:
    wanted = any_(bindparam("ids", type_=ARRAY(Text)))
    return Statement(name, select(key).where(key == wanted).order_by(key).with_for_update())
