"""One Postgres database of this process: its lanes, its pool, its wake-ups."""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from sqlalchemy.engine import Engine

from ...backend import Capabilities, Presence
from ...clock import Clock
from ...ids import new_ulid
from ...server_clock import ServerClock
from ..database import FEW_EVENTS, Database, NoPresence
from ..lane import NO_LOCKS, Job, Lane, Locks, Operation, outcome_of
from ..near_lane import NearLane
from ..tables import tables
from ..unhurried import Patience
from .connections import Connection, Connector, Pool, run_sql
from .errors import translated
from .listener import Listener
from .location import Location
from .migrations import bring_up
from .options import Options
from .reads import Reads
from .transaction import SERVER_TIME, Transactions
from .writes import Writes

T = TypeVar("T")

_SCHEMA: Final = """
    SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass(%s)
"""
_MAX_WRITERS: Final = 2
_MAX_READERS: Final = 4
_MAX_BATCH: Final = 256
_MAX_LOOKS: Final = 16
_LONG_WAIT_S: Final = 0.005
"""Of a batch of writes, for two round trips and what the server does for many callers in them."""

_MAX_VALUE: Final = 256 << 20
"""A row that is sent has at most 1 GB, and that of a step has its input, output and last error."""


class PostgresDatabase(Database):
    """Whatever is quick happens on the event loop's own thread; see ``Database``."""

    concurrent = True
    server_time = True
    few_events = FEW_EVENTS
    max_value = _MAX_VALUE

    def __init__(
        self,
        location: Location,
        options: Options,
        *,
        clock: Clock,
        prefix: str,
        auto_migrate: bool,
        engine: Engine | None,
    ) -> None:
        super().__init__(tables(prefix, options.schema), clock=clock)
        self.location, self.options = location, options
        self.skips_locked = options.claim_strategy == "skip_locked"
        self._prefix, self._auto_migrate = prefix, auto_migrate
        self._connector = Connector(location, options, engine)
        self._engine = self._connector.engine()
        self._start()

    def _start(self) -> None:
        connector, options = self._connector, self.options
        self._pool = Pool(connector.connect, options.pool_size)
        self._server_clock = ServerClock(self.clock)
        # Of this process alone: others' notifications must not be taken for our own.
        origin = new_ulid()
        self._transactions = Transactions(
            connector.connect,
            self.tables,
            self.dialect,
            self._server_clock,
            options,
            origin=origin,
        )
        writes = Writes(self._pool, self._transactions)
        self._transact, self._transact_each = writes.transact, writes.transact_each
        reads = Reads(self._pool, self.dialect, self._server_clock, options)
        readers = min(_MAX_READERS, options.pool_size)
        patience = Patience()
        self._writes = NearLane(
            "workflow-world-writer",
            writes.transact,
            at_once=writes.transact_at_once,
            threads=max(1, min(_MAX_WRITERS, options.pool_size // 2)),
            max_batch=_MAX_BATCH,
            spread=Spread(),
            order=lambda job: job.locks.order,
            patience=patience,
            long_wait_s=_LONG_WAIT_S,
        )
        self._reads = Lane(
            "workflow-world-reader", reads.look, threads=readers, max_batch=_MAX_LOOKS
        )
        self._glances = NearLane(
            "workflow-world-glancer",
            patience.timed(reads.glance),
            at_once=patience.timed(reads.glance_at_once),
            threads=readers,
            max_batch=_MAX_LOOKS,
        )
        self._listener = (
            Listener(connector.connect, self.hub, origin=origin) if options.notifies else None
        )

    def forked(self) -> None:
        self._pool.leave_alone()
        self._begin_anew()
        self._start()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="postgres",
            notifies_processes=self._listener is not None,
            max_chunk_bytes=_MAX_VALUE,
            max_payload_bytes=_MAX_VALUE,
        )

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
        return await self._writes.submit(
            operation, repeatable=repeatable, unhurried=unhurried, locks=locks, then=then
        )

    def write_blocking(
        self, operation: Operation[T], *, repeatable: bool = False, locks: Locks = NO_LOCKS
    ) -> T:
        job = Job(operation, locks=locks)
        self._transact([job])
        return outcome_of(job)

    def write_each_blocking(
        self, operations: Sequence[tuple[Operation[T], Locks]]
    ) -> list[T | None]:
        """On the caller's own thread: a lane's may wait for a lock for longer than a lease."""
        jobs = [Job(operation, locks=locks) for operation, locks in operations]
        blocked = {id(job) for job in self._transact_each(jobs)}
        return [None if id(job) in blocked else outcome_of(job) for job in jobs]

    async def read(self, operation: Operation[T]) -> T:
        return await self._reads.submit(operation)

    async def glance(self, operation: Operation[T], *, whole: bool = False) -> T:
        return await self._glances.submit(operation)

    async def announce(self, free_all: Callable[[], Awaitable[int]]) -> Presence:
        return NoPresence()

    def _open(self, revision: str) -> None:
        with translated():
            bring_up(self._engine, self.tables, revision, migrate=self._auto_migrate)
            with self._pool.connection() as connection:
                row = run_sql(connection, SERVER_TIME).fetchone()
                assert row is not None
                self._server_clock.learn(row[0])
                channel = _channel(self._prefix, self._schema(connection))
        self._transactions.channel = channel
        if self._listener is not None:
            self._listener.start(channel)

    def _schema(self, connection: Connection) -> str:
        """Where the tables are, whether an option or the role's ``search_path`` says so."""
        runs = self.tables.runs
        name = self.dialect.identifier_preparer.format_table(runs)
        found = connection.execute(_SCHEMA.encode(), (name,), prepare=False).fetchone()
        return "" if found is None else str(found[0])

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.stop()
        for lane in (self._writes, self._reads, self._glances):
            lane.close()
        self._pool.close()
        self._engine.dispose()


class Spread:
    """Has a run's writes done by one thread, so that they share transactions instead of waiting
    for each other's locks."""

    def __init__(self) -> None:
        self._next = itertools.count()

    def __call__(self, job: Job[Any]) -> int:
        place = job.locks.place
        return zlib.crc32(place.encode("utf-8", "replace")) if place else next(self._next)


def _channel(prefix: str, schema: str) -> str:
    """A channel per set of tables; all of a database's clients derive the same."""
    name = f"{schema}.{prefix}".encode()
    return f"workflow_world_{hashlib.sha256(name).hexdigest()[:16]}"
