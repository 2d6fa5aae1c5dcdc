"""One database: its client, its journal, the thread that writes and those that read."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from ..backend import Capabilities
from ..clock import Clock
from ..core.values import to_ms
from ..errors import BackendError, PayloadTooLargeError, WorldClosedError
from ..forks import leave_alone, watch
from ..server_clock import ServerClock
from ..signals import Hub
from . import schema
from .client import Client, Tables, Unreached, connect, tables_of, translated
from .journal import Journal
from .lane import Job, Lane
from .transaction import Transaction
from .watch import Watch

logger = logging.getLogger("workflow_world.mongodb")
T = TypeVar("T")

MAX_PAYLOAD: Final = (5 << 20) + (1 << 14)
"""A document has 16 MiB at most, and a step's or a run's holds up to three payloads. Encoded: a
little more than 5 MiB."""
MAX_CHUNK: Final = 15 << 20
CAPABILITIES: Final = Capabilities(
    name="mongodb",
    notifies_processes=True,
    max_chunk_bytes=MAX_CHUNK,
    max_payload_bytes=MAX_PAYLOAD,
)

_READERS: Final = 8
_CLOCK_S: Final = 5.0
"""How long the server's clock is believed to go on as it was."""
_PATIENCE_S: Final = 5.0
_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.1


class Database:
    """What the handles of a process on one database share.

    ``make``: a client of the caller's own, which is never closed here.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        clock: Clock,
        auto_migrate: bool = True,
        client: Client | None = None,
        change_streams: bool = True,
        poll_ms: int = 50,
    ) -> None:
        self.capabilities = CAPABILITIES
        self.clock, self._auto_migrate = clock, auto_migrate
        self._url, self._name = url, name
        self._streams, self._poll_ms = change_streams, poll_ms
        self._owned = client is None
        self._closed = self._is_parents = False
        self._begin(connect(url) if client is None else client)
        watch(self)

    def _begin(self, client: Client) -> None:
        """Nothing is known before connecting."""
        self._client = client
        self.hub = Hub(self.clock)
        self.tables: Tables = tables_of(client, self._name)
        self.journal = Journal(self.tables)
        self._lane = Lane(self._transact)
        self._readers = ThreadPoolExecutor(_READERS, "workflow-world-mongodb-read")
        self._server_clock = ServerClock(self.clock)
        self._asked = -_CLOCK_S
        self._opening = threading.Lock()
        self._away: tuple[float, str] | None = None
        self.is_open = False
        self._watch = Watch(
            self.tables, self.hub, change_streams=self._streams, poll_ms=self._poll_ms
        )

    # --- a fork ----------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Nothing has to be closed."""

    def after_fork(self) -> None:
        """Nor opened."""

    def forked(self) -> None:
        """In the child: a client of its own, and threads of its own."""
        for inherited in (self._client, self._readers):
            leave_alone(inherited)
        self._is_parents = not self._owned
        if not self._closed:
            self._begin(connect(self._url) if self._owned else self._client)

    # --- open and close --------------------------------------------------------------------

    async def open(self) -> None:
        if not self.is_open:
            asked = time.monotonic()
            await self._in_thread(lambda: self._open(asked))

    def _open(self, asked: float) -> None:
        with self._opening:
            if self.is_open:
                return
            if self._closed:
                raise WorldClosedError("This World's database is closed")
            if self._is_parents:
                raise BackendError(
                    "The MongoClient that this World was given stays with the process that made "
                    "it: in a child, create a World with a client of the child's own"
                )
            self._must_not_be_away(asked)
            try:
                if self._auto_migrate:
                    schema.create(self.tables, self.journal, self.clock.now())
                else:
                    schema.check(self.tables)
                self._ask_the_time()
                self._watch.start(self.journal.settled().number)
            except Unreached as error:
                self._away = time.monotonic(), str(error)
                raise
            self.is_open = True

    def _must_not_be_away(self, asked: float) -> None:
        """Who waited for another's vain search does not search once more: else each of many would
        take its turn. Raises: Unreached."""
        away = self._away
        if away is not None and asked < away[0]:
            raise Unreached(away[1], sent=False)

    def close(self) -> None:
        """Blocking. Never raises because the server is gone."""
        self._closed = True
        self._lane.close()
        self._watch.stop()
        self._readers.shutdown()
        if self._owned:
            self._client.close()

    # --- the queue's clock -----------------------------------------------------------------

    def queue_now(self) -> datetime:
        """By the server's clock (spec 1.1). From a thread that may wait."""
        if time.monotonic() - self._asked > _CLOCK_S:
            self._ask_the_time()
        return self._server_clock.now()

    def _ask_the_time(self) -> None:
        with translated():
            # Not ``hello``: this name is known to every server, and to what speaks like one.
            answer = self._client.admin.command("isMaster")
        self._server_clock.learn(to_ms(_aware(answer["localTime"])))
        self._asked = time.monotonic()

    # --- reads -----------------------------------------------------------------------------

    async def read(self, action: Callable[[Tables], T]) -> T:
        """What ``action`` reads, behind all that was committed before."""
        await self.open()
        until = time.monotonic() + _PATIENCE_S
        return await self._in_thread(lambda: self._read(action, until))

    def _read(self, action: Callable[[Tables], T], until: float) -> T:
        pause = 0.02
        if time.monotonic() > until:
            self._must_not_be_away(until)
        while True:
            try:
                self.journal.settled()
                with translated():
                    found = action(self.tables)
                self._away = None
                return found
            except Unreached as error:
                if time.monotonic() > until or self._closed:
                    self._away = time.monotonic(), str(error)
                    raise
                time.sleep(pause)
                pause *= 1.5

    async def _in_thread(self, action: Callable[[], T]) -> T:
        if self._closed:
            raise WorldClosedError("This World's database is closed")
        try:
            doing = asyncio.get_running_loop().run_in_executor(self._readers, action)
        except RuntimeError:
            # It was closed between the two.
            raise WorldClosedError("This World's database is closed") from None
        return await doing

    # --- writes ----------------------------------------------------------------------------

    async def write(
        self,
        operation: Callable[[Transaction], T],
        *,
        ahead: Sequence[tuple[str, str]] = (),
        then: Callable[[T], None] | None = None,
    ) -> T:
        """The operation's result, once committed; ``ahead``: what it is going to ``get``."""
        await self.open()
        return await self._lane.submit(operation, ahead=ahead, then=then)

    def write_blocking(
        self, operation: Callable[[Transaction], T], *, ahead: Sequence[tuple[str, str]] = ()
    ) -> T:
        self._open(time.monotonic())
        return self._lane.submit_blocking(operation, ahead=ahead)

    def _transact(self, jobs: Sequence[Job[Any]]) -> None:
        """One entry of the journal for all of them; again while others are faster."""
        until = time.monotonic() + _PATIENCE_S
        pause = _PAUSE_S
        while True:
            try:
                if self._attempt(jobs):
                    return
            except Unreached:
                self.journal.forget()
                if time.monotonic() > until or self._closed:
                    raise
                pause = max(pause, 0.02)
            except BaseException:
                self.journal.forget()
                raise
            time.sleep(pause * random.uniform(0.2, 1))  # noqa: S311
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def _attempt(self, jobs: Sequence[Job[Any]]) -> bool:
        last = self.journal.known()
        transaction = Transaction(self.tables, self.queue_now())
        with translated():
            transaction.read_ahead(place for job in jobs for place in job.ahead)
            for job in jobs:
                job.run(transaction)
                if isinstance(job.error, Unreached):
                    raise job.error
        changes = transaction.changes()
        if not changes:
            # What was read must have been of one state.
            found = self.journal.settled()
            if found.number != last.number:
                self.journal.forget()
            return found.number == last.number
        if not self.journal.commit(last, changes):
            return False
        self._watch.wrote(last.number + 1)
        for topic in dict.fromkeys(transaction.topics):
            self.hub.notify(topic)
        return True

    # --- limits ----------------------------------------------------------------------------

    def check_payload(self, what: str, value: bytes | None) -> None:
        self._check(what, value, MAX_PAYLOAD)

    def check_chunk(self, what: str, value: bytes) -> None:
        self._check(what, value, MAX_CHUNK)

    def _check(self, what: str, value: bytes | None, most: int) -> None:
        """Raises: PayloadTooLargeError."""
        if value is not None and len(value) > most:
            raise PayloadTooLargeError(
                f"{what} has {len(value)} bytes, over the {most} bytes that mongodb stores; "
                "nothing was written"
            )


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
