"""Transactions on a remote database: run again where that is safe, found out where it is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy.engine import Dialect

from ... import faults, hrana
from ...errors import BackendError
from ...server_clock import ServerClock
from ..compiled import Proof
from ..outages import UNKNOWN_OUTCOME, NotApplied, Retry, Unreachable
from .connections import SERVER_TIME, Connections
from .errors import is_passing, is_too_many
from .session import Another, LibsqlSession, SingleSession

T = TypeVar("T")

_ASK_S: Final = 20.0
"""How long the outcome of a COMMIT is asked for. The server keeps the lock of a transaction that
was lost for five seconds."""

_LOSSES: Final = 5
_PAUSE_S: Final = 0.05
_WRITE: Final = "BEGIN IMMEDIATE"
"""The write lock at once: a transaction that reads first could not get it later."""

_READ: Final = "BEGIN"


class Transactions:
    def __init__(self, connections: Connections, dialect: Dialect, clock: ServerClock) -> None:
        self._connections, self._dialect, self._clock = connections, dialect, clock

    def write(self, action: Callable[[LibsqlSession], T]) -> T:
        """The action in a transaction that is committed. It may run several times.

        Raises: what the action raises, nothing was written then; Unreachable or a driver error
        once patience is at its end; BackendError with code UNKNOWN_OUTCOME.
        """
        return self._repeated(lambda careful: self._write(action, careful))

    def read(self, action: Callable[[LibsqlSession], T]) -> T:
        """The action on one instant; in one round trip when it reads once."""
        return self._repeated(lambda careful: self._read(action, careful))

    def learn_time(self) -> None:
        """Ask the server for its time. Raises: driver errors; nothing is tried again."""
        with self._connections.one() as connection:
            ((milliseconds,),) = connection.execute(SERVER_TIME).fetchall()
            self._clock.learn(milliseconds)

    def _repeated(self, action: Callable[[bool], T]) -> T:
        retry, careful, losses = Retry(), False, 0
        while True:
            try:
                return action(careful)
            except NotApplied as error:
                losses += 1
                if losses == _LOSSES:
                    text = "libSQL: the connection was lost, again and again"
                    raise Unreachable(text) from error
                retry = Retry()  # the server was there a moment ago, so patience begins anew
            except hrana.Error as error:
                if is_too_many(error) and not careful:
                    careful = True
                elif not is_passing(error) or not retry.after_loss():
                    raise

    def _read(self, action: Callable[[LibsqlSession], T], careful: bool) -> T:
        with self._connections.one() as connection:
            if not careful:
                try:
                    return action(SingleSession(connection, self._dialect, self._clock))
                except Another:
                    pass
            return action(self._begin(connection, _READ, careful))

    def _write(self, action: Callable[[LibsqlSession], T], careful: bool) -> T:
        with self._connections.one() as connection:
            session = self._begin(connection, _WRITE, careful)
            result = action(session)
            faults.point("before commit")
            if not session.has_begun:
                # COMMIT only goes to one that is known to hold the lock: see ``_find_out``.
                session.flush()
            try:
                connection.commit()
                return result
            except hrana.UnknownOutcomeError as error:
                lost = error
        if session.wrote:
            self._find_out(session.proof, lost)
        return result

    def _begin(self, connection: hrana.Connection, begin: str, careful: bool) -> LibsqlSession:
        return LibsqlSession(connection, self._dialect, self._clock, begin=begin, careful=careful)

    def _find_out(self, proof: Proof | None, error: hrana.Error) -> None:
        """The answer to a COMMIT was lost. Returns if the transaction was committed.

        It held the write lock. Who gets that lock next knows that it is over, one way or the
        other, and whether a row of it is there says which; a row that others may have changed by
        now says nothing by its absence.
        """
        deadline = time.monotonic() + _ASK_S
        while proof is not None and time.monotonic() < deadline:
            statement, values = proof.read
            try:
                with self._connections.one() as connection:
                    session = self._begin(connection, _WRITE, careful=True)
                    found = session.one(statement, **values)
                    is_late = proof.until is not None and session.now() >= proof.until
            except hrana.Error as failure:
                if not is_passing(failure):
                    break
                time.sleep(_PAUSE_S)
            else:
                if found is not None:
                    return
                if is_late:
                    break
                raise NotApplied
        raise BackendError(
            "libSQL: the connection was lost during COMMIT; what it wrote may be there or not",
            code=UNKNOWN_OUTCOME,
        ) from error
