"""Databases that simulated processes share: in memory, and a real SQLite file."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from workflow_world.backend import Backend
from workflow_world.core.values import from_ms
from workflow_world.errors import BackendError
from workflow_world.memory.backend import MemoryBackend
from workflow_world.memory.database import MemoryDatabase
from workflow_world.signals import Hub
from workflow_world.sql import SqlBackend
from workflow_world.sql.lane import Lane
from workflow_world.sql.sqlite.connections import retrying
from workflow_world.sql.sqlite.database import SqliteDatabase
from workflow_world.sql.sqlite.locations import locate
from workflow_world.sql.sqlite.watch import Watcher
from workflow_world.sql.sqlite.writer import Writer, at_once

from .clock import SimulatedClock
from .faulty import Faults
from .lanes import PumpedLane, PumpedNearLane
from .ledger import Rows
from .loop import SimulatedLoop
from .processes import OUTSIDE, Process, within


class Store(Protocol):
    """The fault points behind a commit, or right before one that nothing else can stop."""

    after_commit: str | None
    before_commit: str | None

    def handle(self, process: Process) -> tuple[Backend, Hub]:
        """A new handle for the process, and the hub of its wake-ups."""
        ...

    def rows(self) -> Rows: ...

    def committed(self) -> None:
        """A process has committed."""
        ...

    def error(self) -> Exception:
        """What a statement raises when the disk fails."""
        ...

    def close(self) -> None: ...


class SharedMemory(MemoryDatabase):
    """Wake-ups meet faults on their way to each handle."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults
        self.owners: dict[Hub, Process] = {}

    def notify(self, topic: str) -> None:
        for hub, process in self.owners.items():
            if process.alive:
                self._faults.wake(hub, topic, within(process))


class MemoryStore:
    """Satisfies ``Store``."""

    after_commit = None
    before_commit = "memory.commit"

    def __init__(self, clock: SimulatedClock, faults: Faults) -> None:
        self._clock = clock
        self._database = SharedMemory(faults)

    def handle(self, process: Process) -> tuple[Backend, Hub]:
        backend = MemoryBackend(self._database, clock=self._clock)
        hub = backend.notifier._hub
        self._database.owners[hub] = process
        return backend, hub

    def rows(self) -> Rows:
        messages = self._database.messages
        return {
            key: (one.lease_token, one.leased_until, one.replays) for key, one in messages.items()
        }

    def committed(self) -> None:
        """The database wakes the others itself."""

    def error(self) -> Exception:
        return BackendError("simulated: a statement failed")

    def close(self) -> None:
        """Nothing is held."""


class CalledWatcher(Watcher):
    """A watcher without a thread: it looks some time after each commit."""

    due = False

    def start(self) -> None:
        """It is called."""

    def stop(self) -> None:
        """It is not called any more: its process is gone."""

    def call(self) -> None:
        self.due = False
        self.look()


class ContendingWriter(Writer):
    """Who waits for the lock gets it, as a transaction ends in the step that begins it; who does
    not may find that another process has it."""

    def __init__(self, faults: Faults, process: Process, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._faults, self._process = faults, process

    def _begin(self, cursor: sqlite3.Cursor, take: Any) -> None:
        if take is not retrying and self._faults.happens(self._faults.chances.locked):
            raise sqlite3.OperationalError("database is locked")
        try:
            super()._begin(cursor, at_once)
        except sqlite3.OperationalError as error:
            if self._process.alive:
                self._faults.loop.errors.append(f"{self._process.name} cannot begin: {error}")
            raise


class SimulatedSqlite(SqliteDatabase):
    """One process's connections to the file.

    ``near``: it has the write lane that works on the event loop, as a World has by default.
    """

    def __init__(
        self, path: Path, clock: SimulatedClock, faults: Faults, process: Process, *, near: bool
    ) -> None:
        self._near, self._faults, self.process = near, faults, process
        super().__init__(
            locate(f"file:{path}"),
            clock=clock,
            prefix="",
            synchronous="normal",
            auto_migrate=False,
            engine=None,
            lane=PumpedLane,
            watcher=CalledWatcher,
        )
        self.hub = ProcessHub(clock, faults, process)

    def _new_writer(self, kind: Callable[..., Writer] = Writer) -> Writer:
        return super()._new_writer(partial(ContendingWriter, self._faults, self.process))

    def _writing_lane(self) -> Lane:
        if not self._near:
            return super()._writing_lane()
        return PumpedNearLane(
            "workflow-world-writer",
            self._gated(self.writer.transact),
            at_once=self._transact_at_once,
            max_batch=self._faults.random.choice((1, 3, 256)),
            random=self._faults.random,
        )

    @property
    def watcher(self) -> CalledWatcher | None:
        return self._watcher  # type: ignore[return-value]

    def disappear(self) -> None:
        """The process was killed: the kernel closes its descriptors."""
        self._disconnect()
        self._engine.dispose()


class ProcessHub(Hub):
    """Wake-ups meet faults also within a process."""

    def __init__(self, clock: SimulatedClock, faults: Faults, process: Process) -> None:
        super().__init__(clock)
        self._faults, self._process = faults, process

    def notify(self, topic: str) -> None:
        self._faults.wake(self, topic, within(self._process))


class SqliteStore:
    """Satisfies ``Store``. ``template`` is an empty database with the newest schema."""

    after_commit = "after commit"
    before_commit = None

    def __init__(
        self, template: Path, path: Path, loop: SimulatedLoop, clock: SimulatedClock, faults: Faults
    ) -> None:
        shutil.copyfile(template, path)
        self._path, self._loop, self._clock, self._faults = path, loop, clock, faults
        self._databases: list[SimulatedSqlite] = []
        self._observer = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)

    def handle(self, process: Process) -> tuple[Backend, Hub]:
        near = self._faults.random.random() < 0.75
        database = SimulatedSqlite(self._path, self._clock, self._faults, process, near=near)
        self._databases.append(database)
        if process is not OUTSIDE:
            process.at_end.append(database.disappear)
        backend = SqlBackend(lambda: database, None)
        backend._dropped.detach()  # whoever is killed closes nothing
        return backend, database.hub

    def rows(self) -> Rows:
        found = self._observer.execute(
            "SELECT message_id, lease_token, leased_until, run_id, step_id FROM queue_messages"
        )
        return {
            key: (token, until and from_ms(until), run_id if step_id is None else None)
            for key, token, until, run_id, step_id in found
        }

    def committed(self) -> None:
        self._databases = [one for one in self._databases if one.process.alive]
        for database in self._databases:
            watcher = database.watcher
            if watcher is None or watcher.due or not database.hub.has_waiters.is_set():
                continue
            if self._faults.happens(self._faults.chances.lost_wake_up):
                continue
            watcher.due = True
            context = within(database.process, "watcher")
            delay = self._faults.random.uniform(0, 0.03)
            self._loop.call_later(delay, watcher.call, context=context)

    def error(self) -> Exception:
        return sqlite3.OperationalError("disk I/O error")

    def close(self) -> None:
        self._observer.close()
        for database in self._databases:
            database.disappear()
