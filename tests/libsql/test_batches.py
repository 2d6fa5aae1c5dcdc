"""What several callers write at once: one transaction, whose reads are one request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hrana.proxy import Proxy
from postgres.helpers import QUEUE, create_run, event, eventually, log_of
from sql.helpers import Held

from workflow_world import World
from workflow_world.backend import NewMessage
from workflow_world.clock import SYSTEM_CLOCK
from workflow_world.core.delivery import Done, Limits, Settlement, settle
from workflow_world.core.entities import Message
from workflow_world.sql.lane import Locks
from workflow_world.sql.libsql import batches

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def together(world: World, calls: Sequence[Awaitable[Any]], proxy: Proxy) -> list[Any]:
    """The results of all calls, which wait until the lane is free and so are one batch; what the
    proxy has seen are its requests."""
    database: Any = world.backend.database  # type: ignore[attr-defined]  # of SQL
    async with Held(database):
        tasks = [asyncio.ensure_future(call) for call in calls]
        await eventually(lambda: database._writes._queues[0].qsize() == len(calls))
        proxy.bodies.clear()
    done = list(await asyncio.gather(*tasks, return_exceptions=True))
    # What kept the lane busy has sent its requests behind the gate, too.
    del proxy.bodies[: 1 + next(at for at, sent in enumerate(proxy.sent()) if "COMMIT" in sent)]
    return done


def _ended(message: Message) -> Settlement:
    return settle(message, Done(), now=SYSTEM_CLOCK.now(), spread=0, limits=Limits())


def step(number: int, value: object = 1) -> dict[str, object]:
    return event("step_created", f"step_{number}", stepName="s", input=value)


async def test_events_of_many_runs_are_two_requests(far: World, proxy: Proxy) -> None:
    runs = [f"wrun_{number}" for number in range(50)]
    for run in runs:
        await create_run(far, run)
    calls = [far.events.create(run, step(1)) for run in runs]
    done = await together(far, calls, proxy)
    assert not [one for one in done if isinstance(one, BaseException)]
    assert len(proxy.bodies) == 2
    for run in runs:
        assert await log_of(far, run) == [("run_created", None), ("step_created", "step_1")]


async def test_what_comes_later_sees_what_came_before(far: World, proxy: Proxy) -> None:
    """Two events of each run, and one that is refused for what its neighbour has just written."""
    runs = ["wrun_1", "wrun_2"]
    for run in runs:
        await create_run(far, run)
    first = [far.events.create(run, step(1)) for run in runs]
    second = [far.events.create(run, event("step_started", "step_1")) for run in runs]
    again = far.events.create("wrun_1", step(1, value=2))
    done = await together(far, [*first, *second, again], proxy)
    assert [one.step.status for one in done[2:4]] == ["running", "running"]
    assert isinstance(done[4], Exception)
    for run in runs:
        kinds = [kind for kind, _ in await log_of(far, run)]
        assert kinds == ["run_created", "step_created", "step_started"]


async def test_a_settlement_shares_the_next_write(far: World, proxy: Proxy) -> None:
    """One that is not held any more is told apart, also by what was read before."""
    await create_run(far, "wrun_1")
    for step_id in ("a", "b"):
        await far.queue(QUEUE, {"runId": "wrun_1", "stepId": step_id, "stepName": "s"})
    claim = await far.backend.messages.claim(
        limit=2, lease=timedelta(seconds=30), serialize_runs=True, prefixes=None
    )
    held, lost = (_ended(message) for message in claim.messages)
    calls = [
        far.backend.messages.settle([(held, None)]),
        far.backend.messages.settle([(replace(lost, lease_token="another"), None)]),  # noqa: S106
        far.events.create("wrun_1", step(1)),
    ]
    done = await together(far, calls, proxy)
    assert done[:2] == [[True], [False]]
    assert len(proxy.bodies) == 2
    found = await far.backend.messages.list_messages(
        status="completed", run_id=None, queue_name=None, after=None, limit=9
    )
    assert [one.message_id for one in found] == [held.message_id]
    assert len(await log_of(far, "wrun_1")) == 2


async def test_one_replay_of_a_run_is_claimed_with_its_message(far: World, proxy: Proxy) -> None:
    """What replays the run is looked up for the first of them only; the others see that one."""
    terms: dict[str, Any] = {"lease": timedelta(seconds=30), "serialize_runs": True}
    calls = [
        far.backend.messages.enqueue_and_claim(
            NewMessage(
                message_id=f"msg_{key}",
                queue_name=QUEUE,
                payload=b"",
                max_attempts=3,
                run_id="wrun_1",
                idempotency_key=key,
                is_wake_up=key is None,
            ),
            **terms,
        )
        for key in ("k1", "k2", None)
    ]
    done = await together(far, calls, proxy)
    assert sorted(one.claimed is not None for one in done) == [False, False, True]


async def test_who_is_done_hears_of_it_when_there_was_no_time_for_the_others(
    far: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of a batch is another transaction."""
    monkeypatch.setattr(batches, "LOCKED_S", 0)
    gate = threading.Event()
    writes = far.backend.database.write  # type: ignore[attr-defined]
    one, two, three = (
        asyncio.create_task(writes(work, locks=Locks(key=key)))
        for key, work in (("a", lambda _: 1), ("b", lambda _: gate.wait()), ("c", lambda _: 3))
    )
    assert await one == 1
    assert [two.done(), three.done()] == [False, False]
    gate.set()
    assert await asyncio.gather(two, three) == [True, 3]


async def test_large_writes_do_not_wait_for_each_other(far: World, proxy: Proxy) -> None:
    """What waits is sent on the way, so the lock is not kept for all of it at the end."""
    await create_run(far, "wrun_1")
    calls = [far.events.create("wrun_1", step(number, "x" * MIB)) for number in range(6)]
    done = await together(far, calls, proxy)
    assert not [one for one in done if isinstance(one, BaseException)]
    assert max(len(body) for body in proxy.bodies) < 3 * MIB
    assert len(await log_of(far, "wrun_1")) == 7


async def test_more_than_an_answer_holds_is_read_one_by_one(far: World, proxy: Proxy) -> None:
    """Each run's input is read when it begins: together they are over the server's limit."""
    runs = [f"wrun_{number}" for number in range(12)]
    for run in runs:
        await far.events.create(
            run,
            event("run_created", deploymentId="d", workflowName="greet", input="x" * MIB),
        )
    calls = [far.events.create(run, event("run_started")) for run in runs]
    done = await together(far, calls, proxy)
    assert not [one for one in done if isinstance(one, BaseException)]
    assert {one.run.status for one in done} == {"running"}
    assert len(proxy.bodies) > len(runs)
