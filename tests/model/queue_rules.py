"""Rules about the queue: a message's whole life, in leases of several workers, and the sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from workflow_world.backend import Claim, Lease, Retention
from workflow_world.core.decide import intent_for
from workflow_world.core.decision import Intent
from workflow_world.core.delivery import (
    Again,
    Done,
    Failed,
    Limits,
    Outcome,
    Released,
    Unreachable,
    settle,
)
from workflow_world.core.entities import Message
from workflow_world.core.events import NewEvent, checked
from workflow_world.core.recovery import WakeUp, wake_ups
from workflow_world.world import World

from .machine import OWNER, RUNS, STEPS, Machine, creation, handles, run_ids, step_ids
from .sides import Side

WORKFLOW, STEP = "__wkf_workflow_", "__wkf_step_"
KEYS: Final = (None, None, "key a", *STEPS)
PROGRESS: Final = ("start", "step", "step ends", "sleep", "resume", "end")
LIMITS: Final = Limits(max_delay_s=3600)

keys = st.sampled_from(KEYS)
delays = st.sampled_from([None, None, -1.0, 0.0004, 0.5, 30.0])
pick = st.integers(0, 5)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Done()),
    st.builds(Again, delay_seconds=st.sampled_from([0.0, 0.25, 5000.0]), idempotency_key=keys),
    st.builds(
        Failed,
        message=st.just("boom"),
        status=st.sampled_from([None, 500]),
        retry_after_seconds=st.sampled_from([None, None, 7.0]),
    ),
    st.just(Released()),
    st.just(Unreachable(message="refused")),
)


class QueueRules(Machine):
    @initialize()
    def three_messages(self) -> None:
        """A wake-up, another message of the run, and one of its step."""
        self._enqueue(0, WORKFLOW + "greet", {"runId": RUNS[0]}, None, None)
        self._enqueue(1, WORKFLOW + "greet", {"runId": RUNS[0], "hookId": "hook_1"}, None, None)
        body = {"runId": RUNS[0], "stepId": STEPS[0], "stepName": "add"}
        self._enqueue(0, STEP + "add", body, STEPS[0], None)

    @rule(handle=handles, run_id=run_ids, what=st.sampled_from(PROGRESS))
    def run_goes_on(self, handle: int, run_id: str, what: str) -> None:
        """The events that decide what the sweep finds missing."""
        self.send(handle, run_id, *self._progress(what))

    def _progress(self, what: str) -> tuple[Any, ...]:
        resume_at = self.clock.now() + timedelta(seconds=20)
        return {
            "start": ("run_started", None, creation(b"in")),
            "step": ("step_created", STEPS[1], {"stepName": "add", "input": b"in"}),
            "step ends": ("step_completed", STEPS[0], {"result": b"out"}),
            "sleep": ("wait_created", "wait_1", {"resumeAt": resume_at}),
            "resume": ("hook_received", "hook_1", {"payload": b"go"}),
            "end": ("run_completed", None, {"output": b"out"}),
        }[what]

    # -- into the queue

    @rule(handle=handles, run_id=run_ids, key=keys, delay=delays, bare=st.booleans())
    def enqueue_run(
        self, handle: int, run_id: str, key: str | None, delay: float | None, bare: bool
    ) -> None:
        """A bare one, without key and delay, is a wake-up."""
        body: dict[str, Any] = {"runId": run_id} | ({} if bare else {"hookId": "hook_1"})
        self._enqueue(handle, WORKFLOW + "greet", body, key, delay)

    @rule(handle=handles, run_id=run_ids, step_id=step_ids, keyed=st.booleans(), delay=delays)
    def enqueue_step(
        self, handle: int, run_id: str, step_id: str, keyed: bool, delay: float | None
    ) -> None:
        body = {"runId": run_id, "stepId": step_id, "stepName": "add"}
        self._enqueue(handle, STEP + "add", body, step_id if keyed else None, delay)

    def _enqueue(
        self, handle: int, name: str, body: Any, key: str | None, delay: float | None
    ) -> None:
        self.id_of_both(
            handle,
            lambda side, world: world.queue(name, body, idempotency_key=key, delay_seconds=delay),
        )

    # -- deliveries

    @rule(
        handle=handles,
        limit=st.integers(1, 3),
        lease=st.sampled_from([0.5, 30.0, 30.0]),
        serialize_runs=st.booleans(),
        prefixes=st.sampled_from([None, None, (WORKFLOW,), (STEP,), (STEP, WORKFLOW), ()]),
    )
    def claim(
        self,
        handle: int,
        limit: int,
        lease: float,
        serialize_runs: bool,
        prefixes: Sequence[str] | None,
    ) -> None:
        self._claim(
            handle, limit=limit, lease=lease, serialize_runs=serialize_runs, prefixes=prefixes
        )

    def _claim(
        self,
        handle: int,
        *,
        limit: int,
        lease: float,
        serialize_runs: bool,
        prefixes: Sequence[str] | None,
    ) -> None:
        claims: list[Claim] = []

        async def take(side: Side, world: World) -> Any:
            await world.backend.open()
            claimed = await world.backend.messages.claim(
                limit=limit,
                lease=timedelta(seconds=lease),
                serialize_runs=serialize_runs,
                prefixes=prefixes,
            )
            claims.append(claimed)
            return claimed.messages

        model, system = self.both(handle, take)
        self.leases.extend(zip(model, system, strict=True))
        assert not_later(claims[1].next_due_at, claims[0].next_due_at), claims

    @rule(handle=handles, limit=st.sampled_from([1, 1, 100]), outcome=outcomes)
    def deliver(self, handle: int, limit: int, outcome: Outcome) -> None:
        """What a worker does most: claim, and end the deliveries at once."""
        before = len(self.leases)
        self._claim(handle, limit=limit, lease=30.0, serialize_runs=limit == 1, prefixes=None)
        if count := len(self.leases) - before:
            self._settle(handle, [*range(count)], outcome, fails_run=False)

    @precondition(lambda self: self.leases)
    @rule(handle=handles, places=st.lists(pick, min_size=1, max_size=2), lease=st.just(30.0))
    def extend(self, handle: int, places: list[int], lease: float) -> None:
        """Of leases that are held, or were."""

        async def extend(side: Side, world: World) -> Any:
            await world.backend.open()
            held = [
                Lease(message_id=one.message_id, token=one.lease_token or "")
                for one in self._held(side, places)
            ]
            lost = await asyncio.to_thread(
                world.backend.messages.extend, held, timedelta(seconds=lease)
            )
            return sorted(map(side.label, lost))

        self.both(handle, extend)

    @precondition(lambda self: self.leases)
    @rule(
        handle=handles,
        places=st.lists(pick, min_size=1, max_size=2),
        outcome=outcomes,
        fails_run=st.booleans(),
    )
    def settle(self, handle: int, places: list[int], outcome: Outcome, fails_run: bool) -> None:
        """With the run's end, as the worker settles a message that has no attempt left."""
        self._settle(handle, places, outcome, fails_run=fails_run)

    def _settle(self, handle: int, places: list[int], outcome: Outcome, *, fails_run: bool) -> None:
        async def end(side: Side, world: World) -> Any:
            await world.backend.open()
            settlements = [
                (
                    settle(one, outcome, now=self.clock.now(), spread=0.3, limits=LIMITS),
                    failing(one.run_id) if fails_run and one.run_id else None,
                )
                for one in self._held(side, places)
            ]
            return await world.backend.messages.settle(settlements)

        self.both(handle, end)

    def _held(self, side: Side, places: list[int]) -> list[Message]:
        """The newest leases, by how many were taken since; each once."""
        which = 0 if side is self.model else 1
        chosen = {max(0, len(self.leases) - 1 - place): None for place in places}
        return [self.leases[place][which] for place in chosen]

    # -- upkeep

    @rule(handle=handles)
    def reap(self, handle: int) -> None:
        async def reap(side: Side, world: World) -> Any:
            await world.backend.open()
            return await world.backend.messages.reap()

        self.both(handle, reap)

    @rule(handle=handles, at_start=st.booleans(), limit=st.sampled_from([1, 2, 100]))
    def sweep(self, handle: int, at_start: bool, limit: int) -> None:
        """As a worker does it: what is missing is the same, and so is what is then sent."""

        async def sweep(side: Side, world: World) -> Any:
            await world.backend.open()
            found = await self._missing(world, at_start, limit)
            sent: list[str | None] = []
            for one in found:
                new = world.messages.new_message(
                    one.queue_name, one.payload, idempotency_key=one.step_id
                )
                message_id = await world.backend.messages.wake(one, new)
                sent.append(None if message_id is None else side.label(message_id))
            return [found, sent]

        self.both(handle, sweep)

    async def _missing(self, world: World, at_start: bool, limit: int) -> list[WakeUp]:
        found: list[WakeUp] = []
        after: str | None = None
        while True:
            page, after = await world.backend.runs.stranded(after=after, limit=limit)
            for facts in page:
                wanted = wake_ups(
                    facts,
                    now=self.clock.now(),
                    grace=timedelta(seconds=5),
                    at_start=at_start,
                    namespace=None,
                )
                found += sorted(wanted, key=lambda one: one.step_id or "")
            if after is None:
                return found

    @rule(handle=handles, keep=st.sampled_from([0, 0, 61]), limit=st.sampled_from([1, 100]))
    def prune(self, handle: int, keep: float, limit: int) -> None:
        retention = Retention(completed=timedelta(seconds=keep), failed=timedelta(seconds=2 * keep))

        async def prune(side: Side, world: World) -> Any:
            await world.backend.open()
            counts = [limit]
            while counts[-1]:  # to the end: which ones come first is nobody's promise
                counts.append(await world.backend.messages.prune(retention, limit=limit))
            return counts

        self.both(handle, prune)

    @precondition(lambda self: self.leases)
    @rule(handle=handles, place=pick, verb=st.sampled_from(["retry", "retry", "delete"]))
    def retry_or_delete(self, handle: int, place: int, verb: str) -> None:
        self.both(
            handle,
            lambda side, world: getattr(world.messages, verb)(
                self._held(side, [place])[0].message_id
            ),
        )


def failing(run_id: str) -> Intent:
    event = NewEvent(event_type="run_failed", event_data={"error": {"message": "exhausted"}})
    return intent_for(run_id, checked(run_id, event), owner=OWNER)


def not_later(found: datetime | None, exact: datetime | None) -> bool:
    """Whether a next due time keeps its promise: too early is allowed, too late is not."""
    return exact is None or (found is not None and found <= exact)
