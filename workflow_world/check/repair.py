"""Carrying a plan out, through the operations that the worker itself uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.invariants import Finding
from ..core.rules import Owner
from ..errors import WorldError
from .plan import Plan, Repair, can_be_rebuilt
from .queue import orphan
from .reader import RunReader, judged
from .rebuild import intents_for
from .walk import Readable, UnreadableError

if TYPE_CHECKING:
    from ..world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a repair. ``text`` says why it was not done, or what was found instead."""

    repair: Repair
    done: bool
    text: str = ""


async def apply(world: World, plan: Plan) -> Sequence[Outcome]:
    """Do what a plan says, each repair by itself and only while it is still needed.

    Safe beside live workers, and safe to repeat: a repair that is not needed any more counts as
    done. One that fails says why, and the others go on.

    Raises: what opening the database raises.
    """
    await world.messages.stats()  # opens the database
    repairer = _Repairer(world)
    return [await repairer.outcome(repair) for repair in plan.repairs]


class _Repairer:
    def __init__(self, world: World) -> None:
        self._world, self._backend = world, world.backend
        self._reader, self._readable = RunReader(world.backend), Readable(world.backend)

    async def outcome(self, repair: Repair) -> Outcome:
        try:
            match repair.action:
                case "wake":
                    return await self._wake(repair)
                case "free-leases":
                    count = await self._backend.messages.reap()
                    return Outcome(repair=repair, done=True, text=f"{count} given back")
                case "delete-message":
                    return await self._delete(repair)
                case "rebuild":
                    return await self._rebuild(repair)
        except (WorldError, UnreadableError) as error:
            return Outcome(repair=repair, done=False, text=str(error))

    async def _wake(self, repair: Repair) -> Outcome:
        wake_up = repair.findings[0].wake_up
        assert wake_up is not None
        message = self._world.messages.new_message(
            wake_up.queue_name, wake_up.payload, idempotency_key=wake_up.step_id
        )
        message_id = await self._backend.messages.wake(wake_up, message)
        return Outcome(repair=repair, done=True, text=message_id or "it is not needed any more")

    async def _delete(self, repair: Repair) -> Outcome:
        message_id = repair.findings[0].subject or ""
        message = await self._backend.messages.get_message(message_id)
        if message is None or await orphan(self._readable, self._backend, message) is None:
            return Outcome(repair=repair, done=True, text="it is not needed any more")
        # Should its run be created this instant, the recovery pass wakes it all the same.
        done = await self._backend.messages.delete(message_id)
        return Outcome(repair=repair, done=done, text="" if done else "it is being delivered")

    async def _rebuild(self, repair: Repair) -> Outcome:
        run_id = repair.findings[0].run_id or ""
        seen = await judged(self._reader, run_id)
        if seen is None:
            return Outcome(repair=repair, done=False, text="the run changes all the while")
        rows, findings = seen
        for intent in intents_for(rows, _chosen(findings), _owner(self._world)):
            await self._backend.runs.write(intent)
        seen = await judged(self._reader, run_id)
        left = [] if seen is None else _chosen(seen[1])
        text = "; ".join(f"{one.kind} {one.subject}: {one.detail}" for one in left)
        return Outcome(repair=repair, done=seen is not None and not left, text=text)


def _chosen(findings: Sequence[Finding]) -> list[Finding]:
    return [one for one in findings if can_be_rebuilt(one)]


def _owner(world: World) -> Owner:
    """What this World stamps on hooks."""
    settings = world.settings
    return Owner(
        owner_id=settings.owner_id,
        project_id=settings.project_id,
        environment=settings.environment or "development",
    )
