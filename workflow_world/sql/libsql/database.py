"""One remote libSQL database of this process: its write lane and its readers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final, TypeVar

from sqlalchemy.engine import Engine

from ...backend import Capabilities, Presence
from ...clock import Clock
from ...forks import leave_alone
from ...hrana.location import Location
from ...server_clock import ServerClock
from ..database import Database, NoPresence
from ..lane import NO_LOCKS, Lane, Locks, Operation
from ..tables import tables
from ..unhurried import Patience, Unhurried
from .batches import Batches
from .connections import Connections, engine_on
from .errors import translated
from .migrations import bring_up
from .transactions import Transactions

T = TypeVar("T")

_READERS: Final = 8
_MAX_BATCH: Final = 256
_MAX_ROW: Final = 5_000_000
"""Bytes of a row that a server stores."""

_BESIDE: Final = 64 << 10
"""Kept free for what a row has besides its payloads."""

_CAPABILITIES: Final = Capabilities(
    name="libsql",
    max_chunk_bytes=_MAX_ROW - _BESIDE,
    # The row of a step has its input, its output and its last error.
    max_payload_bytes=(_MAX_ROW - _BESIDE) // 3,
)


class LibsqlDatabase(Database):
    """One write lane, for there is one writer; see ``Database``.

    Nothing is kept between write transactions: others may have written, and to ask the server
    whether they have costs as much as to read what is needed.
    """

    server_time = True

    def __init__(
        self,
        location: Location,
        *,
        clock: Clock,
        prefix: str,
        auto_migrate: bool,
        timeout: float,
    ) -> None:
        super().__init__(tables(prefix), clock=clock)
        self.location = location
        self._timeout = timeout
        self._prefix, self._auto_migrate = prefix, auto_migrate
        self._engine = engine_on(location)
        self._clock = ServerClock(clock)
        self._start()

    def _start(self) -> None:
        self._connections = Connections(self.location, timeout=self._timeout)
        self._transactions = Transactions(self._connections, self._engine.dialect, self._clock)
        self._batches = batches = Batches(self._transactions)
        patience = Patience()
        self._writes = Lane(
            "workflow-world-writer",
            batches.transact,
            threads=1,
            max_batch=_MAX_BATCH,
            # Those that know what they read come first, so that it is read together.
            order=lambda job: job.locks.order,
            unhurried=Unhurried(patience),
        )
        self._reads = Lane(
            "workflow-world-reader",
            patience.timed(batches.look),
            threads=_READERS,
            max_batch=1,
        )

    def forked(self) -> None:
        leave_alone(self._connections)
        self._begin_anew()
        self._start()

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    @property
    def engine(self) -> Engine:
        return self._engine

    def prepare(self) -> None:
        """Nothing is known before connecting."""

    def translated(self) -> AbstractContextManager[None]:
        return translated()

    async def write(
        self,
        operation: Operation[T],
        *,
        repeatable: bool = False,
        unhurried: bool = False,
        locks: Locks = NO_LOCKS,
        then: Callable[[T], None] | None = None,
    ) -> T:
        """``locks`` tell what can be read for several operations at once: nothing is locked, for
        one writes at a time. When to flush is the server's."""
        return await self._writes.submit(operation, unhurried=unhurried, locks=locks, then=then)

    def write_blocking(
        self, operation: Operation[T], *, repeatable: bool = False, locks: Locks = NO_LOCKS
    ) -> T:
        return self._writes.submit_blocking(operation, locks=locks)

    async def read(self, operation: Operation[T]) -> T:
        return await self._reads.submit(operation)

    async def glance(self, operation: Operation[T], *, whole: bool = False) -> T:
        return await self.read(operation)

    async def announce(self, free_all: Callable[[], Awaitable[int]]) -> Presence:
        return NoPresence()

    def _open(self, revision: str) -> None:
        with translated():
            bring_up(self._engine, self._prefix, revision, migrate=self._auto_migrate)
            self._transactions.learn_time()

    def _close(self) -> None:
        self._writes.close()
        self._reads.close()
        self._connections.close()
        self._engine.dispose()
