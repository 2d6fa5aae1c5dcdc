"""What waits to be sent, and the transaction that it belongs to, as the caller sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from .errors import Error, NotSupportedError, OperationalError, TransactionLostError
from .results import NOTHING, Pending
from .statements import parse
from .stream import Stream

Begin: TypeAlias = Literal["DEFERRED", "IMMEDIATE", "EXCLUSIVE"]

_MAX_STEPS: Final = 500
"""Statements to a request. The server holds the write lock while it works through one."""

_MAX_BYTES: Final = 4 << 20
"""Text and bytes bound by the statements of one request, as they are sent."""


class Transactions:
    """``begun``: a transaction is open, or its BEGIN waits. ``lost``: it was, and the server
    lost it; nothing may run until the caller knows. ``level``: begin by ourselves, or None.
    ``changes``: rows written, as far as told.
    """

    def __init__(self, stream: Stream) -> None:
        self.begun = self.lost = False
        self.level: Begin | None = None
        self.changes = 0
        self._stream = stream
        self._queue: list[Pending] = []

    def enqueue(self, sql: str) -> Pending:
        """A statement of the driver's own."""
        statement = parse(sql)
        pending = Pending(statement, statement.bind(()))
        self.accept(pending)
        return pending

    def accept_all(self, many: Sequence[Pending]) -> None:
        """All of them, or none: one that is refused leaves the queue as it was."""
        before = len(self._queue), self.begun, self.lost
        try:
            for pending in many:
                self.accept(pending)
        except Error:
            count, self.begun, self.lost = before
            del self._queue[count:]
            raise

    def accept(self, pending: Pending) -> None:
        """Queue the statement and follow its transaction; ROLLBACK is done at once.

        Raises: OperationalError, NotSupportedError for one that has no place here.
        """
        kind = pending.statement.kind
        if kind == "rollback":
            if not (self.begun or self.lost):
                raise OperationalError("ROLLBACK without a transaction")
            self.roll_back()
            pending.result = NOTHING
            return
        if kind == "begin":
            if self.begun:
                raise OperationalError("BEGIN within a transaction")
            self.begun, self.lost = True, False
        elif self.lost:
            raise TransactionLostError("The transaction is gone: roll back, then begin again")
        elif kind == "commit":
            if not self.begun:
                raise OperationalError("COMMIT without a transaction")
            self.begun = False
            if not self._stream.is_open and self._has_only_begin():
                self._queue.clear()  # the server need not know
                pending.result = NOTHING
                return
        elif not self.begun:
            if self.level is not None:
                self.enqueue(f"BEGIN {self.level}")
            elif kind == "savepoint":
                raise NotSupportedError("A savepoint outside of a transaction: send BEGIN first")
        self._queue.append(pending)

    def roll_back(self) -> None:
        """What waits is never sent."""
        self._queue.clear()
        self.begun = self.lost = False
        self._stream.roll_back()

    def forget(self) -> None:
        """The transaction, its baton and the socket stay the parent process's."""
        self._queue.clear()
        self._stream.forget()
        self.lost = self.lost or self.begun
        self.begun = False

    def flush(self) -> None:
        """Send what waits. Raises: the error of the first statement that failed, or of the
        network; what was behind it is dropped."""
        while self._queue:
            count = _portion(self._queue)
            batch, self._queue = self._queue[:count], self._queue[count:]
            try:
                self._send(batch)
            except BaseException:
                self._queue.clear()
                raise

    def _send(self, batch: Sequence[Pending]) -> None:
        stays_open = _leaves_open(batch, self._stream.is_open)
        is_open, failed = False, True
        try:
            is_open = self._stream.run(batch, close=not stays_open)
            failed = any(pending.error is not None for pending in batch)
        finally:
            if self.begun and not is_open and (stays_open or failed):
                # The server has none: what comes next must not run outside of a transaction.
                self.begun, self.lost = False, True
        self.changes += sum(max(one.result.rowcount, 0) for one in batch if one.result)
        for pending in batch:
            if pending.error is not None:
                if not self.begun:
                    self._stream.roll_back()  # its COMMIT was in what is not sent any more
                if pending is not batch[-1]:
                    pending.error.add_note(f"raised by: {pending.statement.sql}")
                raise pending.error

    def _has_only_begin(self) -> bool:
        return len(self._queue) == 1 and self._queue[0].statement.kind == "begin"


def _leaves_open(batch: Iterable[Pending], is_open: bool) -> bool:
    """Whether a transaction is open after the statements."""
    for pending in batch:
        if pending.statement.kind in ("begin", "commit"):
            is_open = pending.statement.kind == "begin"
    return is_open


def _portion(queue: Sequence[Pending]) -> int:
    """How many of the statements go into one request: one at least."""
    size = 0
    for number, pending in enumerate(queue[:_MAX_STEPS]):
        size += pending.size
        if number and size > _MAX_BYTES:
            return number
    return min(len(queue), _MAX_STEPS)
