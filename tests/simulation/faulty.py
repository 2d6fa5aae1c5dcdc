"""Faults by seed: at the seam, at the fault points below it, and in the wake-ups."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any, Final

from workflow_world.backend import Backend, Lease
from workflow_world.core.decision import Decision, Intent
from workflow_world.core.delivery import Settlement
from workflow_world.errors import BackendError
from workflow_world.signals import Hub

from .ledger import Ledger
from .loop import SimulatedLoop
from .processes import OUTSIDE, Crash, Process, here

READS: Final = ("get_", "list_", "stranded", "stats", "page", "info", "names")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chances:
    """How likely each fault is, per operation, fault point or wake-up; 0 to 1."""

    refused: float = 0
    unknown: float = 0
    slow: float = 0
    crash_between: float = 0
    crash_within: float = 0
    broken_statement: float = 0
    locked: float = 0
    lost_wake_up: float = 0
    late_wake_up: float = 0
    cancelled: float = 0


class Faults:
    """``chances`` may be exchanged at any time: ``Chances()`` heals everything."""

    def __init__(self, loop: SimulatedLoop, random: Random, chances: Chances) -> None:
        self.loop, self.random, self.chances = loop, random, chances

    def happens(self, chance: float) -> bool:
        return chance > 0 and self.random.random() < chance

    def at_point(self, name: str, error: Callable[[], Exception]) -> None:
        """A fault point was reached. Raises: Crash, or the error."""
        process, _ = here.get()
        if process is OUTSIDE:
            return
        if not process.alive:
            raise Crash
        self.loop.note(f"{process.name} {name}")
        if self.happens(self.chances.crash_within):
            self.crash(process)
        if not name.startswith("after") and self.happens(self.chances.broken_statement):
            self.loop.note(f"{process.name} breaks")
            raise error()

    def crash(self, process: Process) -> None:
        if process.mortal:
            self.loop.kill(process)
            raise Crash

    def wake(self, hub: Hub, topic: str, context: Any) -> None:
        """Pass a wake-up on, now, later or never."""
        if self.happens(self.chances.lost_wake_up):
            return
        if self.happens(self.chances.late_wake_up):
            later = self.random.uniform(0, 0.5)
            self.loop.call_later(later, Hub.notify, hub, topic, context=context)
        else:
            Hub.notify(hub, topic)

    async def around(self, process: Process, name: str, verb: Callable[[], Awaitable[Any]]) -> Any:
        """One verb of the seam."""
        if not process.alive:
            raise Crash
        chances, number = self.chances, self.loop.steps
        self.loop.note(f"{process.name} asks {name}")
        if self.happens(chances.slow):
            await asyncio.sleep(self.random.expovariate(1) * 0.3)
        if self.happens(chances.refused):
            raise BackendError("simulated: the database cannot be reached")
        if self.happens(chances.crash_between):
            self.crash(process)
        try:
            result = await verb()
        except Exception as error:
            self.loop.note(f"{process.name} met {type(error).__name__} in {name} of {number}")
            raise
        if self.happens(chances.crash_between):
            self.crash(process)
        if self.happens(chances.slow):
            await asyncio.sleep(self.random.expovariate(1) * 0.3)
        if not name.startswith(READS) and self.happens(chances.unknown):
            raise BackendError("simulated: the answer was lost", code="UNKNOWN_OUTCOME")
        self.loop.note(f"{process.name} has {name} of {number}")
        return result


class Verbs:
    """A store whose verbs meet faults."""

    def __init__(self, store: Any, process: Process, faults: Faults, ledger: Ledger) -> None:
        self._store, self._process = store, process
        self._faults, self._ledger = faults, ledger

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)

        async def call(*args: Any, **options: Any) -> Any:
            return await self._around(name, lambda: verb(*args, **options))

        return call

    async def _around(self, name: str, verb: Callable[[], Awaitable[Any]]) -> Any:
        return await self._faults.around(self._process, name, verb)

    def _stale(self, what: str, lease: Lease | None) -> None:
        text = f"{self._process.name} could {what} without the lease of {lease}"
        self._ledger.violations.append(text)


class FaultyRuns(Verbs):
    async def write(self, intent: Intent) -> Any:
        """What was written without a lease is a violation."""
        decided: list[bool] = []
        # The rule that refuses a lost lease is bound into ``decide``, and with it the lease.
        bound = getattr(intent.decide, "args", ())
        sender = next((one for one in bound if isinstance(one, Lease)), None)

        def decide(facts: Any, now: Any) -> Any:
            verdict = intent.decide(facts, now)
            decided[:] = [isinstance(verdict, Decision) and bool(verdict.events)]
            return verdict

        async def write() -> Any:
            held = self._ledger.holds(sender)
            result = await self._store.write(replace(intent, decide=decide))
            if not held and any(decided):
                self._stale("write an event", sender)
            return result

        result = await self._around("write", write)
        if result.event is not None:
            self._ledger.acknowledged.append(result.event)
        return result


class FaultyMessages(Verbs):
    async def enqueue(self, message: Any, **options: Any) -> Any:
        async def enqueue() -> Any:
            held = self._ledger.holds(message.sender)
            message_id = await self._store.enqueue(message, **options)
            if not held:
                self._stale("enqueue", message.sender)
            return message_id

        return await self._around("enqueue", enqueue)

    async def settle(self, settlements: Sequence[tuple[Settlement, Intent | None]]) -> Any:
        async def settle() -> Any:
            leases = [
                Lease(message_id=one.message_id, token=one.lease_token) for one, _ in settlements
            ]
            held = [self._ledger.holds(lease) for lease in leases]
            for lease in leases:
                self._ledger.settling(lease.token)
            done = await self._store.settle(settlements)
            for lease, was_held, settled in zip(leases, held, done, strict=True):
                if settled and not was_held:
                    self._stale("settle", lease)
            return done

        return await self._around("settle", settle)

    def extend(self, leases: Sequence[Lease], lease: timedelta) -> frozenset[str]:
        faults, process = self._faults, self._process
        if not process.alive:
            raise Crash
        if faults.happens(faults.chances.refused):
            raise BackendError("simulated: the database cannot be reached")
        lost: frozenset[str] = self._store.extend(leases, lease)
        if faults.happens(faults.chances.unknown):
            raise BackendError("simulated: the answer was lost", code="UNKNOWN_OUTCOME")
        return lost

    async def enter(self) -> Any:
        """The kernel lets go of what a killed process had announced."""
        presence = await self._around("enter", self._store.enter)
        self._process.at_end.append(presence.close)
        return presence


class FaultyChunks(Verbs):
    async def append(self, *args: Any, sender: Lease | None = None) -> Any:
        async def append() -> Any:
            held = self._ledger.holds(sender)
            first = await self._store.append(*args, sender=sender)
            if not held:
                self._stale("append", sender)
            return first

        return await self._around("append", append)


class OwnWakeUps:
    """A process's own wake-ups for itself are not lost."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.subscribe = hub.subscribe

    def notify(self, topic: str) -> None:
        Hub.notify(self._hub, topic)


class FaultyBackend:
    """Satisfies ``Backend``, for one process."""

    def __init__(
        self, backend: Backend, hub: Hub, process: Process, faults: Faults, ledger: Ledger
    ) -> None:
        self._backend, self._process = backend, process
        self.capabilities = backend.capabilities
        self.runs = FaultyRuns(backend.runs, process, faults, ledger)
        self.messages = FaultyMessages(backend.messages, process, faults, ledger)
        self.chunks = FaultyChunks(backend.chunks, process, faults, ledger)
        self.notifier = OwnWakeUps(hub)

    async def open(self) -> None:
        if not self._process.alive:
            raise Crash
        await self._backend.open()

    async def close(self) -> None:
        await self._backend.close()
