"""How deliveries end (B126 to B134, B140, B142), at the seam."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest

from ... import faults
from ...codec import decode
from ...core.decide import intent_for
from ...core.delivery import (
    Again,
    Done,
    Failed,
    Limits,
    Released,
    Unreachable,
    dead,
    given_up,
    settle,
)
from ...core.entities import ABSENT
from ...core.events import NewEvent
from ...core.rules import Owner
from ...errors import WorldError
from ...world import World
from ..clock import ManualClock
from .helpers import RUN, start_run
from .queue_helpers import (
    MILLISECOND,
    QUEUE_NAME,
    claim,
    claim_one,
    end,
    put,
    store_of,
    unfinished,
)

BACKOFF_S = (1, 2, 4, 8, 16, 32, 60, 60)


@pytest.mark.anyio
async def test_b126_success_completes_the_message(world: World, clock: ManualClock) -> None:
    """Completed, without a lease, with the time; it is not delivered again."""
    message_id = await put(world, idempotency_key="k")
    message = await claim_one(world, message_id)
    clock.advance(3)
    assert await end(world, message, Done(), clock.now())
    done = await world.messages.get(message_id)
    assert (done.status, done.attempt, done.idempotency_key) == ("completed", 1, "k")
    assert (done.lease_token, done.leased_until) == (None, None)
    assert done.processed_at == done.updated_at == clock.now()
    clock.advance(3600)
    assert await claim(world) == []


@pytest.mark.anyio
@pytest.mark.parametrize("spread", [-1.0, 0.0, 1.0])
async def test_b128_backoff_doubles_up_to_a_minute(
    world: World, clock: ManualClock, spread: float
) -> None:
    """1, 2, 4, 8, 16, 32, 60, 60 s, each within 20 %; never claimed before."""
    message_id = await put(world, max_attempts=len(BACKOFF_S) + 1)
    for attempt, seconds in enumerate(BACKOFF_S, 1):
        message = await claim_one(world, message_id)
        assert (message.attempt, message.deliveries) == (attempt, attempt)
        assert await end(world, message, Failed(message="boom"), clock.now(), spread=spread)
        due_at = (await world.messages.get(message_id)).available_at
        assert due_at - clock.now() == timedelta(seconds=seconds * (1 + spread / 5))
        clock.advance((due_at - clock.now() - MILLISECOND).total_seconds())
        assert await claim(world) == []
        clock.advance(0.001)
    assert (await claim_one(world, message_id)).attempt == len(BACKOFF_S) + 1


@pytest.mark.anyio
async def test_b127_last_failure_ends_the_message(world: World, clock: ManualClock) -> None:
    """After the last attempt: failed, with the last error and the time; no further claim."""
    message_id = await put(world, max_attempts=2)
    message = await claim_one(world, message_id)
    assert await end(world, message, Failed(message="first", status=500), clock.now())
    again = await world.messages.get(message_id)
    assert (again.status, again.attempt, again.processed_at) == ("pending", 2, None)
    assert again.last_error is not None
    assert (again.last_error["message"], again.last_error["status"]) == ("first", 500)
    clock.advance(2)
    message = await claim_one(world, message_id)
    assert await end(world, message, Failed(message="last"), clock.now())
    failed = await world.messages.get(message_id)
    assert (failed.status, failed.attempt, failed.deliveries) == ("failed", 2, 2)
    assert failed.last_error is not None
    assert failed.last_error["message"] == "last"
    assert "status" not in failed.last_error
    assert failed.processed_at == clock.now()
    clock.advance(100_000)
    assert await claim(world) == []


@pytest.mark.anyio
async def test_b129_continuation_brings_the_same_message_back(
    world: World, clock: ManualClock
) -> None:
    """Same id and payload after the delay; attempts and deliveries start anew."""
    message_id = await put(world, idempotency_key="k", max_attempts=3)
    for _ in range(2):
        message = await claim_one(world, message_id)
        assert await end(world, message, Failed(message="boom"), clock.now())
        clock.advance(3)
    message = await claim_one(world, message_id)
    assert message.attempt == 3
    assert await end(world, message, Again(delay_seconds=1.5), clock.now())
    clock.advance(1.499)
    assert await claim(world) == []
    clock.advance(0.001)
    again = await claim_one(world, message_id)
    assert (again.attempt, again.deliveries, again.idempotency_key) == (1, 1, "k")
    assert again.payload == message.payload
    assert (await world.messages.list()).data == (again,)


@pytest.mark.anyio
async def test_b130_continuations_never_exhaust_a_message(world: World, clock: ManualClock) -> None:
    """Far more continuations than attempts or deliveries are allowed."""
    message_id = await put(world, max_attempts=1)
    limits = Limits()
    for _ in range(4 * limits.max_deliveries):
        message = await claim_one(world, message_id)
        assert given_up(message, limits) is None
        assert await end(world, message, Again(delay_seconds=0), clock.now(), limits=limits)
    assert (await world.messages.get(message_id)).attempt == 1


@pytest.mark.anyio
@pytest.mark.parametrize("held_by", ["pending", "processing"])
async def test_b131_continuation_whose_key_is_held_completes(
    world: World, clock: ManualClock, held_by: str
) -> None:
    """Another unfinished message has the key: exactly one wake-up remains, that one."""
    message_id = await put(world, idempotency_key="old", run_id="wrun_1")
    message = await claim_one(world, message_id)
    other = await put(world, idempotency_key="k", run_id="wrun_1")
    if held_by == "processing":
        await claim_one(world, other)
    outcome = Again(delay_seconds=1, idempotency_key="k")
    assert await end(world, message, outcome, clock.now())
    done = await world.messages.get(message_id)
    assert (done.status, done.idempotency_key) == ("completed", "old")
    assert done.processed_at == clock.now()
    assert [left.message_id for left in await unfinished(world, "wrun_1")] == [other]


@pytest.mark.anyio
async def test_b131_what_was_put_off_is_counted_no_more(world: World, clock: ManualClock) -> None:
    """Of a message that completes for another has its key: as of one that is done."""
    message_id = await put(world)
    busy = Failed(message="busy", retry_after_seconds=1)
    assert await end(world, await claim_one(world, message_id), busy, clock.now())
    put_off = (await world.messages.get(message_id)).last_error
    assert put_off is not None
    clock.advance(2)
    message = await claim_one(world, message_id)
    other = await put(world, idempotency_key="k")
    again = Again(delay_seconds=0, idempotency_key="k")
    assert await end(world, message, again, clock.now())
    done = await world.messages.get(message_id)
    assert (done.status, done.last_error) == (
        "completed",
        {"message": "busy", "at": put_off["at"]},
    )
    assert [left.message_id for left in await unfinished(world)] == [other]


@pytest.mark.anyio
@pytest.mark.parametrize("ended", ["completed", "failed"])
async def test_b131_finished_message_holds_no_key_against_a_continuation(
    world: World, clock: ManualClock, ended: str
) -> None:
    """Only unfinished messages count: the continuation takes the key over."""
    other = await put(world, idempotency_key="k", max_attempts=1)
    holder = await claim_one(world, other)
    outcome = Done() if ended == "completed" else Failed(message="boom")
    assert await end(world, holder, outcome, clock.now())
    message_id = await put(world, idempotency_key="old")
    message = await claim_one(world, message_id)
    assert await end(world, message, Again(delay_seconds=1, idempotency_key="k"), clock.now())
    again = await world.messages.get(message_id)
    assert (again.status, again.idempotency_key) == ("pending", "k")
    assert await put(world, idempotency_key="k") == message_id
    assert await put(world, idempotency_key="old") != message_id


@pytest.mark.anyio
async def test_b132_continuation_with_its_own_key_is_rescheduled(
    world: World, clock: ManualClock
) -> None:
    """A message never stands in its own way."""
    message_id = await put(world, idempotency_key="k")
    message = await claim_one(world, message_id)
    assert await end(world, message, Again(delay_seconds=2, idempotency_key="k"), clock.now())
    again = await world.messages.get(message_id)
    assert (again.status, again.idempotency_key) == ("pending", "k")
    assert again.available_at == clock.now() + timedelta(seconds=2)


@pytest.mark.anyio
async def test_continuation_delay_is_bounded(world: World, clock: ManualClock) -> None:
    """Longer than the maximum is cut to it; the handler asks again for the rest."""
    message_id = await put(world)
    message = await claim_one(world, message_id)
    limits = Limits(max_delay_s=100)
    assert await end(world, message, Again(delay_seconds=1e9), clock.now(), limits=limits)
    due_at = (await world.messages.get(message_id)).available_at
    assert due_at == clock.now() + timedelta(seconds=100)


class Trip:
    """Raises at one fault point, and only the first time it comes by."""

    def __init__(self, number: int) -> None:
        self.number, self.seen = number, 0

    def __call__(self, name: str) -> None:
        self.seen += 1
        if self.seen == self.number:
            raise InterruptedError(f"fault at point {self.number}, {name}")


@pytest.mark.anyio
@pytest.mark.parametrize("held", [False, True], ids=["free key", "held key"])
async def test_b134_continuation_is_atomic(world: World, clock: ManualClock, held: bool) -> None:
    """A fault at any point of the settlement leaves at least one wake-up, and never two."""
    point = 0
    while True:
        point += 1
        run_id = f"wrun_{point}"
        message_id = await put(world, run_id=run_id, idempotency_key=f"old_{point}")
        message = await claim_one(world, message_id)
        others = set[str]()
        if held:
            others = {await put(world, run_id=run_id, idempotency_key=f"k_{point}")}
        before = await world.messages.get(message_id)
        trip = Trip(point)
        with faults.armed(trip), contextlib.suppress(InterruptedError, WorldError):
            await end(
                world,
                message,
                Again(delay_seconds=1, idempotency_key=f"k_{point}"),
                clock.now(),
            )
        left = {one.message_id for one in await unfinished(world, run_id)}
        untouched = await world.messages.get(message_id) == before
        assert left == (others | {message_id} if untouched else others or {message_id})
        for other in others:
            await world.messages.delete(other)
        if trip.seen < point:
            return


@pytest.mark.anyio
@pytest.mark.parametrize(
    "outcome",
    [Done(), Failed(message="boom"), Again(delay_seconds=0), Released()],
    ids=["done", "failed", "again", "released"],
)
@pytest.mark.parametrize("how", ["claimed by another", "reaped", "deleted"])
async def test_b140_lost_lease_settles_nothing(
    world: World,
    rival: World,
    clock: ManualClock,
    outcome: Done | Failed | Again | Released,
    how: str,
) -> None:
    """Zero rows changed: whoever has the message now is not disturbed."""
    message_id = await put(world)
    message = await claim_one(world, message_id)
    clock.advance(31)
    if how == "claimed by another":
        await claim_one(rival, message_id)
    elif how == "reaped":
        assert await (await store_of(rival)).reap() == 1
    else:
        await rival.messages.delete(message_id)
    before = (await world.messages.list()).data
    assert not await end(world, message, outcome, clock.now())
    assert (await world.messages.list()).data == before


@pytest.mark.anyio
@pytest.mark.parametrize("lost_first", [True, False])
async def test_b140_lost_lease_beside_the_live_one_of_its_message(
    world: World, clock: ManualClock, lost_first: bool
) -> None:
    """In one call, as when a worker claimed again what it had lost: each gets its own answer."""
    message_id = await put(world)
    lost = await claim_one(world, message_id)
    clock.advance(31)
    store = await store_of(world)
    assert await store.reap() == 1
    live = await claim_one(world, message_id)
    held = [lost, live] if lost_first else [live, lost]
    pairs = [
        (settle(one, Done(), now=clock.now(), spread=0, limits=Limits()), None) for one in held
    ]
    assert [*await store.settle(pairs)] == [not lost_first, lost_first]
    assert (await world.messages.get(message_id)).status == "completed"


@pytest.mark.anyio
async def test_settlement_is_applied_once(world: World, clock: ManualClock) -> None:
    """The second settlement of a delivery finds its token gone."""
    message_id = await put(world)
    message = await claim_one(world, message_id)
    assert await end(world, message, Done(), clock.now())
    assert not await end(world, message, Failed(message="late"), clock.now())
    assert (await world.messages.get(message_id)).status == "completed"


@pytest.mark.anyio
@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize("outcome", [Done(), Failed(message="boom")], ids=["done", "failed"])
async def test_settlement_brings_its_intent_along(
    world: World, clock: ManualClock, outcome: Done | Failed, is_held: bool
) -> None:
    """However the delivery ends: written if the lease is held, and else not."""
    await start_run(world)
    message_id = await put(world, run_id=RUN)
    message = await claim_one(world, message_id)
    if not is_held:
        clock.advance(31)
        await claim_one(world, message_id)
    failed = NewEvent(event_type="run_failed", event_data={"error": b"err"})
    intent = intent_for(RUN, failed, owner=Owner(environment="development"))
    assert await end(world, message, outcome, clock.now(), intent=intent) is is_held
    expected = ("failed", b"err") if is_held else ("running", ABSENT)
    run = await world.runs.get(RUN)
    assert (run.status, run.error) == expected


@pytest.mark.anyio
async def test_settlements_of_one_call_stand_alone(world: World, clock: ManualClock) -> None:
    """One lost lease among several settlements does not touch the others."""
    lost = await put(world)
    gone = await claim_one(world, lost)
    clock.advance(31)
    await claim_one(world, lost)
    ids = [await put(world) for _ in range(2)]
    first, second = await claim(world)
    store = await store_of(world)
    settled = await store.settle(
        [(dead(message, "gone", clock.now()), None) for message in (first, gone, second)]
    )
    assert [*settled] == [True, False, True]
    assert [(await world.messages.get(one)).status for one in ids] == ["failed", "failed"]
    assert (await world.messages.get(lost)).status == "processing"


@pytest.mark.anyio
async def test_b142_released_message_is_due_at_once(
    world: World, rival: World, clock: ManualClock
) -> None:
    """Attempt unchanged, due now: another worker takes it without waiting."""
    message_id = await put(world)
    message = await claim_one(world, message_id)
    clock.advance(5)
    assert await end(world, message, Released(), clock.now())
    again = await claim_one(rival, message_id)
    assert (again.attempt, again.deliveries) == (1, 1)
    assert again.available_at == clock.now()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "outcome",
    [Failed(message="throttled", retry_after_seconds=7), Unreachable(message="refused")],
    ids=["retry after", "unreachable"],
)
async def test_outcomes_that_cost_no_attempt(
    world: World, clock: ManualClock, outcome: Failed | Unreachable
) -> None:
    """The attempt's number stays, the error is kept, the message waits."""
    message_id = await put(world, max_attempts=1)
    message = await claim_one(world, message_id)
    assert await end(world, message, outcome, clock.now())
    again = await world.messages.get(message_id)
    assert (again.status, again.attempt) == ("pending", 1)
    assert again.last_error is not None
    assert again.last_error["message"] == outcome.message
    least = 7 if isinstance(outcome, Failed) else 1
    assert again.available_at == clock.now() + timedelta(seconds=least)


@pytest.mark.anyio
async def test_payload_is_the_same_at_every_delivery(world: World, clock: ManualClock) -> None:
    """No ending of a delivery changes what the message says."""
    message_id = await world.queue(QUEUE_NAME, {"data": bytes(range(256))})
    endings: list[Callable[[], Again | Failed | Released]] = [
        lambda: Again(delay_seconds=0, idempotency_key="new"),
        lambda: Failed(message="boom"),
        Released,
    ]
    for ending in endings:
        message = await claim_one(world, message_id)
        assert decode(message.payload) == {"data": bytes(range(256))}
        assert await end(world, message, ending(), clock.now())
        clock.advance(2)
    assert decode((await claim_one(world, message_id)).payload) == {"data": bytes(range(256))}
