"""A connection of PEP 249 to a remote database, and its transactions."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from types import TracebackType
from typing import Final

from . import errors
from .cursor import Cursor
from .errors import (
    Error,
    InterfaceError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from .location import locate
from .results import Pending, Result
from .statements import Parameters, parse
from .stream import Stream
from .transactions import Begin, Transactions
from .transport import Transport

_MODES: Final = ("DEFERRED", "IMMEDIATE", "EXCLUSIVE")
_SKIPPED: Final = "The statement did not run: one before it failed"


class Connection:
    """Made by ``connect``. To be used by one thread at a time; passing it on is fine.

    Nothing is sent before the first statement. Without a transaction each statement commits by
    itself, as with ``sqlite3`` and ``isolation_level=None``; ``BEGIN``, ``COMMIT`` and
    ``ROLLBACK`` are text. A ``BEGIN`` is not sent alone: it rides with the next statement, so
    its lock is taken, and an error of it raised, there.

    With ``write_behind`` the statements of a transaction wait for the first whose result is
    looked at (``fetch…``, ``description``, ``rowcount``, ``lastrowid``), for ``flush`` or for
    ``COMMIT``, and then go out together: a transaction that reads once and writes ten times
    costs two round trips. An error of a waiting statement is raised there, with a note that says
    which one it was; those behind it do not run. What waits at ``rollback`` is never sent.

    When the server loses the transaction, nothing can be run in it by mistake: everything but
    ``rollback``, ``ROLLBACK`` and ``BEGIN`` raises TransactionLostError until one of these.
    A ``COMMIT`` that fails rolls back, unlike SQLite's own.
    """

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(
        self, transport: Transport, *, isolation_level: Begin | None, write_behind: bool
    ) -> None:
        self.write_behind = write_behind
        self._transport = transport
        self._transactions = Transactions(Stream(transport))
        self._closed = False
        self._pid = os.getpid()
        self.isolation_level = isolation_level

    # --- PEP 249 ---------------------------------------------------------------------------

    def cursor(self) -> Cursor:
        self._check()
        return Cursor(self)

    def commit(self) -> None:
        """End the transaction; nothing to do if none is open.

        Raises: UnknownOutcomeError when the answer is lost, TransactionLostError when the
        transaction was, and what statements that waited raise: then nothing was committed.
        """
        self._check()
        if self._transactions.begun or self._transactions.lost:
            self._transactions.enqueue("COMMIT")
            self._transactions.flush()

    def rollback(self) -> None:
        """Undo the transaction, if one is open. Never fails for the network's sake: a server that
        does not hear of it rolls back by itself."""
        self._check()
        self._transactions.roll_back()

    def close(self) -> None:
        """Idempotent; rolls back."""
        if not self._closed:
            if self._pid == os.getpid():
                self.rollback()
            self._closed = True
            self._transport.close()

    def __enter__(self) -> Connection:
        """As in ``sqlite3``: commits at the end, or rolls back; does not close."""
        self._check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.rollback()
            return
        try:
            self.commit()
        except BaseException:
            self.rollback()
            raise

    def __repr__(self) -> str:
        state = "closed" if self._closed else "in transaction" if self.in_transaction else "idle"
        return f"<{type(self).__name__} to {self._transport.location.base}, {state}>"

    # --- extensions, the first ones as in sqlite3 ------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """False too when the server lost it."""
        return self._transactions.begun and self._pid == os.getpid()

    @property
    def isolation_level(self) -> Begin | None:
        """None: the driver begins nothing by itself. Else it puts ``BEGIN level`` in front of
        any statement outside of a transaction, as PEP 249 has it; that costs no round trip."""
        return self._transactions.level

    @isolation_level.setter
    def isolation_level(self, level: Begin | None) -> None:
        if level is not None and level not in _MODES:
            raise NotSupportedError(f"isolation_level is None or one of {', '.join(_MODES)}")
        self._transactions.level = level

    @property
    def total_changes(self) -> int:
        """Rows that INSERT, UPDATE and DELETE have written on this connection, as far as told."""
        return self._transactions.changes

    @property
    def round_trips(self) -> int:
        """Requests sent so far."""
        return self._transport.requests

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        """A new cursor that has executed the statement."""
        return self.cursor().execute(sql, parameters)

    def batch(
        self,
        statements: Iterable[tuple[str, Parameters]],
        *,
        begin: Begin | None = None,
    ) -> list[Result]:
        """Run the statements in one round trip; each only if those before it succeeded.

        With ``begin`` they are a transaction of their own, committed in the same round trip.
        Without, they belong to the open one, or, outside of one, each commits by itself;
        ``BEGIN`` and ``COMMIT`` may be among them.

        Returns: a result for each. Raises: the error of the first that failed; with ``begin``
        nothing was committed then, except with UnknownOutcomeError.
        """
        self._check()
        if begin is not None:
            if self._transactions.begun:
                raise ProgrammingError("batch(begin=…) within a transaction")
            if begin not in _MODES:
                raise NotSupportedError(f"begin is one of {', '.join(_MODES)}")
        # Bound first: a value that cannot be sent leaves nothing half queued.
        bound = [(parse(sql), parameters) for sql, parameters in statements]
        prepared = [Pending(one, one.bind(values)) for one, values in bound]
        if begin is not None:
            self._transactions.enqueue(f"BEGIN {begin}")
        try:
            self._transactions.accept_all(prepared)
            if begin is not None:
                self._transactions.enqueue("COMMIT")
            self._transactions.flush()
        except Error:
            if begin is not None:
                self.rollback()
            raise
        return [self.result_of(pending) for pending in prepared]

    def flush(self) -> None:
        """Send what waits. Raises: the error of the first statement that failed."""
        self._check()
        self._transactions.flush()

    # --- for cursors -----------------------------------------------------------------------

    def submit(self, sql: str, parameters: Parameters) -> Pending:
        """Queue a statement, and send it unless it may wait."""
        self._check()
        statement = parse(sql)
        pending = Pending(statement, statement.bind(parameters))
        self._transactions.accept(pending)
        if not self._may_wait(pending):
            self.flush()
        return pending

    def submit_many(self, sql: str, rows: Iterable[Parameters]) -> list[Pending]:
        """Queue a statement once for each row; all are bound before the first is queued."""
        self._check()
        statement = parse(sql)
        if statement.kind not in ("write", "other"):
            raise ProgrammingError("executemany is for INSERT, UPDATE, DELETE and REPLACE")
        many = [Pending(statement, statement.bind(row, want_rows=False)) for row in rows]
        self._transactions.accept_all(many)
        if many and not self._may_wait(many[-1]):
            self.flush()
        return many

    def result_of(self, pending: Pending) -> Result:
        """Its result; sends what waits if it is not there yet. Raises: the statement's error."""
        if not pending.is_done:
            self.flush()
        if pending.error is not None:
            raise pending.error
        if pending.result is None:
            raise OperationalError(_SKIPPED)
        return pending.result

    # --- state -----------------------------------------------------------------------------

    def _may_wait(self, pending: Pending) -> bool:
        is_begin = pending.statement.kind == "begin"
        return self._transactions.begun and (self.write_behind or is_begin)

    def _check(self) -> None:
        if self._closed:
            raise ProgrammingError("Cannot operate on a closed connection")
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._transactions.forget()


def connect(
    url: str,
    *,
    auth_token: str | None = None,
    timeout: float = 30.0,
    connect_timeout: float = 10.0,
    tls: bool | ssl.SSLContext | None = None,
    isolation_level: Begin | None = None,
    write_behind: bool = False,
) -> Connection:
    """A connection to a libSQL server (sqld, Turso) by Hrana 3 over HTTP. Sends nothing yet.

    ``url``: ``libsql://HOST[:PORT][?authToken=…][&tls=0]``, ``https://…``, ``http://…``.
    ``timeout``: seconds that an answer may take; a server lets a writer wait up to five for the
    lock. ``tls``: off or on for ``libsql://``, or a context of your own for the certificates.
    ``isolation_level``, ``write_behind``: see ``Connection``.

    Raises: InterfaceError for arguments that are wrong.
    """
    if timeout <= 0 or connect_timeout <= 0:
        raise InterfaceError("timeout and connect_timeout are seconds above 0")
    context = tls if isinstance(tls, ssl.SSLContext) else None
    location = locate(url, auth_token=auth_token, tls=tls if isinstance(tls, bool) else None)
    transport = Transport(
        location, timeout=timeout, connect_timeout=connect_timeout, tls_context=context
    )
    return Connection(transport, isolation_level=isolation_level, write_behind=write_behind)
