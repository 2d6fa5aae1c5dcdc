"""Connections to Postgres: how they are made and set up, and a small pool of them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias, cast

import psycopg
from psycopg.types.numeric import Int8Dumper
from psycopg.waiting import wait
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from ...errors import BackendError, WorldClosedError
from ...forks import leave_alone
from ..outages import Unreachable
from .arrays import DUMPERS
from .errors import connect_error, is_lost
from .location import Location
from .options import Options
from .wire import StillWaiting, Wire

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

_IDLE: Final = psycopg.pq.TransactionStatus.IDLE
_WAIT_S: Final = 30.0
GRACE_S: Final = 5.0
"""How much later than the statement timeout the server's answer to it may come."""

NEAR_S: Final = 0.05
"""For so long a batch may hold up an event loop, now and then: see ``Throttle``."""


class Connector:
    """Makes connections in autocommit: our transactions begin with a ``BEGIN`` of our own.

    With a ``given`` engine they come from it, and are taken out of its pool for good: what is set
    on them never reaches its owner.
    """

    def __init__(self, location: Location, options: Options, given: Engine | None) -> None:
        self._location, self._options, self._given = location, options, given

    def connect(self) -> Connection:
        """Raises: BackendError; ``Unreachable`` where a later attempt may succeed."""
        connection = self._plain()
        pooler = self._options.transaction_pooler
        if pooler:
            connection.prepare_threshold = None
        give_up_after(connection, self._options.statement_timeout_ms / 1000 + GRACE_S)
        # From here on the wire alone prepares: psycopg would let go of what is not its own.
        connection.prepare_threshold = None
        try:
            connection.autocommit = True
            if not pooler:
                timeouts = (
                    f"SET {name} = {value}" for name, value in self._options.timeouts.items()
                )
                run_sql(connection, "; ".join(timeouts))
        except psycopg.Error as error:
            lost = is_lost(error, connection)
            connection.close()
            if lost:
                text = "Postgres: the connection was lost as soon as it was made"
                raise Unreachable(text) from error
            raise
        except BaseException:
            connection.close()
            raise
        # One type for all whole numbers, so that a statement is prepared once.
        connection.adapters.register_dumper(int, Int8Dumper)
        for array, dumper in DUMPERS:
            connection.adapters.register_dumper(array, dumper)
        return connection

    def engine(self) -> Engine:
        """For migrations: no statement is too long for them."""

        def connect() -> Connection:
            connection = self._plain()
            connection.autocommit = False
            if self._options.transaction_pooler:
                connection.prepare_threshold = None
            return connection

        return create_engine(
            "postgresql+psycopg://",
            creator=connect,
            poolclass=NullPool,
            use_native_hstore=False,
        )

    def _plain(self) -> Connection:
        try:
            if self._given is not None:
                borrowed = self._given.raw_connection()
                connection = cast("Connection", borrowed.driver_connection)
                borrowed.detach()
                _speak_utf8(connection)
                return connection
            return psycopg.connect(**self._location.arguments)
        except psycopg.Error as error:
            raise self._refused(error) from error
        except UnicodeError as error:
            # Python's own look-up of names: a part of one is empty or longer than 63 letters.
            text = f"Postgres at {self._location.label}: no host has such a name (check the host)"
            raise BackendError(text) from error
        except Exception as error:
            original = getattr(error, "orig", None)
            if isinstance(original, psycopg.Error):
                raise self._refused(original) from error
            raise

    def _refused(self, error: psycopg.Error) -> BackendError:
        return connect_error(error, self._location.label, self._location.secrets)


class Waiter:
    """How a connection waits: not for ever.

    The server ends a statement that takes too long, and says so: silence means that it cannot be
    reached any more, though nobody said so, and a lane would wait for ever. Keepalives do not
    notice it when something in between still answers them. So the connection is closed when
    nothing came for ``seconds``.
    """

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection, self._seconds = connection, seconds
        self._plain = connection.wait
        self._until: float | None = None
        self.wire = Wire(connection)

    def __call__(self, waiting: Any, *arguments: Any, **named: Any) -> Any:
        if self._until is None:
            bounded = _bounded(waiting, self._connection, self._seconds)
            return self._plain(bounded, *arguments, **named)
        # Not by psycopg's own: when it is interrupted, it waits for the server once more.
        left = max(self._until - time.monotonic(), 0.001)
        return wait(_ended_by(waiting, self._until), self._connection.pgconn.socket, left)

    @contextlib.contextmanager
    def near(self) -> Generator[None]:
        """On an event loop's thread: what is not done after ``NEAR_S`` raises StillWaiting."""
        self._until = time.monotonic() + NEAR_S
        try:
            yield
        finally:
            self._until = None


def give_up_after(connection: Connection, seconds: float) -> None:
    """Have the connection wait by a ``Waiter``, and give it a ``Wire``."""
    waiter = Waiter(connection, seconds)
    connection.wait = cast("Any", waiter)  # type: ignore[method-assign]


def waiter_of(connection: Connection) -> Waiter:
    waiter = connection.wait
    assert isinstance(waiter, Waiter)
    return waiter


def wire_of(connection: Connection) -> Wire:
    return waiter_of(connection).wire


def _bounded(waiting: Any, connection: Connection, seconds: float) -> Generator[Any, Any, Any]:
    """What psycopg waits for; it is asked again and again while nothing comes."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(waiting)
        while True:
            ready = yield wanted
            if ready:
                deadline = time.monotonic() + seconds  # what is large may be long under way
            elif time.monotonic() > deadline:
                waiting.close()
                connection.close()
                raise psycopg.OperationalError(f"no answer within {seconds:g} s")
            wanted = waiting.send(ready)
    except StopIteration as end:
        return end.value


def _ended_by(waiting: Any, until: float) -> Generator[Any, Any, Any]:
    """The same up to a time, whatever comes; another may go on with it then."""
    try:
        wanted = next(waiting)
        while time.monotonic() < until:
            wanted = waiting.send((yield wanted))
    except StopIteration as end:
        return end.value
    raise StillWaiting


def run_sql(connection: Connection, sql: str) -> psycopg.Cursor[tuple[Any, ...]]:
    """One statement of ours without values, or several at once: those cannot be prepared."""
    return connection.execute(sql.encode(), prepare=False)


def roll_back(connection: Connection) -> None:
    """Whatever is open on it; a connection that cannot is not used again.

    Raises: StillWaiting on an event loop's thread, as ``Wire.run`` does.
    """
    try:
        if connection.pgconn.transaction_status != _IDLE:
            wire_of(connection).run([(b"ROLLBACK", (), False)])
    except psycopg.Error:
        connection.close()


def _speak_utf8(connection: Connection) -> None:
    """As ``Location`` has it. Poolers know this setting, and keep it to the client that made it."""
    if connection.pgconn.parameter_status(b"client_encoding") == b"UTF8":
        return
    try:
        connection.autocommit = True
        run_sql(connection, "SET client_encoding = 'UTF8'")
    except BaseException:
        connection.close()
        raise


def local_timeouts(options: Options) -> str:
    """What sets the timeouts of a transaction, as columns of a SELECT."""
    return ", ".join(
        f"set_config('{name}', '{value}', true)" for name, value in options.timeouts.items()
    )


class Pool:
    """At most ``size`` connections, the one used last first. Thread-safe."""

    def __init__(self, connect: Callable[[], Connection], size: int) -> None:
        self._connect = connect
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    @contextlib.contextmanager
    def connection(self) -> Generator[Connection]:
        """A connection without a transaction; what comes back with one is closed.

        Raises: BackendError, WorldClosedError.
        """
        if not self._free.acquire(timeout=_WAIT_S):
            raise Unreachable(f"Postgres: no connection became free within {_WAIT_S:g} s")
        try:
            with self._returning(self._idle_one() or self._connect()) as connection:
                yield connection
        finally:
            self._free.release()

    @contextlib.contextmanager
    def idle(self) -> Generator[Connection | None]:
        """The same, or None where it would have to be waited for."""
        if not self._free.acquire(blocking=False):
            yield None
            return
        try:
            connection = self._idle_one()
            if connection is None:
                yield None
                return
            with self._returning(connection):
                yield connection
        finally:
            self._free.release()

    def forget_idle(self) -> None:
        """One connection was lost: the others probably were, too."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            _close(connection)

    def close(self) -> None:
        self._closed = True
        self.forget_idle()

    def leave_alone(self) -> None:
        """In a child of the process that connected. Others of its threads were using the rest."""
        leave_alone(self._idle)

    def _idle_one(self) -> Connection | None:
        with self._lock:
            if self._closed:
                raise WorldClosedError("This World's database is closed")
            return self._idle.pop() if self._idle else None

    @contextlib.contextmanager
    def _returning(self, connection: Connection) -> Generator[Connection]:
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _give_back(self, connection: Connection) -> None:
        if connection.closed or connection.pgconn.transaction_status != _IDLE:
            _close(connection)
            return
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        _close(connection)


def _close(connection: Connection) -> None:
    with contextlib.suppress(Exception):
        connection.close()
