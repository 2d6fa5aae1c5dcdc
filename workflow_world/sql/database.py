"""What the stores ask of a SQL database, whatever its engine."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, TypeVar

from sqlalchemy.engine import Dialect, Engine

from ..backend import Capabilities, Presence
from ..clock import Clock
from ..errors import PayloadTooLargeError
from ..forks import watch
from ..signals import Hub
from .heads import Heads
from .lane import NO_LOCKS, Locks, Operation
from .tables import Tables

T = TypeVar("T")

FEW_EVENTS: Final = 100
"""To read so many takes no time worth a thread, and most logs are no longer."""


class NoPresence:
    """Workers that share no file prove nothing by being there: the end of a lease decides."""

    def close(self) -> None:
        """There is nothing to give back."""


class Database(ABC):
    """Shared by every World of the process on one URL; see ``workflow_world.sql.open_backend``.

    Opening is lazy, happens once however many threads ask, and is tried again after a failure.
    After ``close`` it is done with. In a child of this process it is as before it was opened, with
    threads and connections of its own.

    Attributes:
        heads: facts kept between write transactions, where that is exact; None: nowhere.
        concurrent: several transactions write at once. Rows are locked before they are read, and
            a write may find that another transaction was first: the operation then looks again.
        skips_locked: a claim passes over rows that another transaction has locked.
        server_time: the server's clock says what is due, and not this process's.
        is_near: a ``glance`` of a few statements takes no round trip to anybody.
        few_events: so many a ``glance`` may read; none where it costs as much as a ``read``.
        max_value: bytes of an event's data or a message's body; None: the server refuses.
    """

    concurrent = False
    skips_locked = False
    server_time = False
    is_near = False
    few_events = 0
    max_value: int | None = None

    def __init__(self, tables: Tables, *, clock: Clock) -> None:
        self.tables, self.clock = tables, clock
        self.heads: Heads | None = None
        self._begin_anew()
        watch(self)

    def _begin_anew(self) -> None:
        self.hub = Hub(self.clock)
        self._opening = threading.Lock()
        self._is_open = False

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities: ...

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """For migrations; its transactions take the write lock unless the option ``ro`` is set."""
        ...

    def check_size(self, what: str, value: bytes | None) -> None:
        """Raises: PayloadTooLargeError. To be called before anything is written."""
        if value is not None and self.max_value is not None and len(value) > self.max_value:
            raise PayloadTooLargeError(
                f"{what} has {len(value)} bytes, over the {self.max_value} bytes that "
                f"{self.capabilities.name} stores; nothing was written"
            )

    @property
    def dialect(self) -> Dialect:
        return self.engine.dialect

    @property
    def is_open(self) -> bool:
        return self._is_open

    async def open(self) -> None:
        """Connect and migrate or check. Raises: BackendError, SchemaError."""
        if not self._is_open:
            await asyncio.to_thread(self.open_blocking)

    def open_blocking(self, revision: str = "head") -> None:
        """``revision`` is where a migration stops."""
        with self._opening:
            if not self._is_open:
                self._open(revision)
                self._is_open = True

    def close(self) -> None:
        """Blocking: runs what was submitted before; what comes later is refused."""
        with self._opening:
            self._close()
            self._is_open = False

    @abstractmethod
    def prepare(self) -> None:
        """Check what the URL names before it is connected to. Raises: BackendError."""
        ...

    @abstractmethod
    def translated(self) -> AbstractContextManager[None]:
        """Driver errors that leave this context become ours; no message holds a parameter."""
        ...

    @abstractmethod
    async def write(
        self,
        operation: Operation[T],
        *,
        repeatable: bool = False,
        unhurried: bool = False,
        locks: Locks = NO_LOCKS,
        then: Callable[[T], None] | None = None,
    ) -> T:
        """Run the operation in a write transaction shared with others. See ``Lane.submit``.

        ``repeatable`` is for claims, extensions and settlements: a loss of power may undo them,
        and then the message is delivered again, as it may be anyway.
        """
        ...

    @abstractmethod
    def write_blocking(
        self, operation: Operation[T], *, repeatable: bool = False, locks: Locks = NO_LOCKS
    ) -> T: ...

    def write_each_blocking(
        self, operations: Sequence[tuple[Operation[T], Locks]]
    ) -> list[T | None]:
        """Several that go together, but do not fail together where ``concurrent``.

        Returns: None for one that would have had to wait for what another transaction holds.
        Raises: the error of the first that failed; the others are written.
        """
        return [self.write_blocking(operation, locks=locks) for operation, locks in operations]

    @abstractmethod
    async def read(self, operation: Operation[T]) -> T:
        """Run the operation in a read transaction: one consistent instant, after this call."""
        ...

    @abstractmethod
    async def glance(self, operation: Operation[T], *, whole: bool = False) -> T:
        """``read`` for a statement or two that find a row or a few by a key.

        ``whole``: they see one instant; else each has its own.
        """
        ...

    @abstractmethod
    async def announce(self, free_all: Callable[[], Awaitable[int]]) -> Presence:
        """See ``MessageStore.enter``; ``free_all`` is called when no other worker can be alive."""
        ...

    def before_fork(self) -> None:  # noqa: B027  # most have nothing to do
        """Called in the process that is about to fork."""

    def after_fork(self) -> None:  # noqa: B027
        """Called in the same process afterwards."""

    @abstractmethod
    def forked(self) -> None:
        """This is a child of the process that opened it: begin anew, leave what is open alone."""
        ...

    @abstractmethod
    def _open(self, revision: str) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...
