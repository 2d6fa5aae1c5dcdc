"""Opening, closing and waiting (B186, B187, B197, B202, B205), and groups of runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ...core.entities import Run, RunStatus
from ...errors import (
    BackendError,
    EntityConflictError,
    InvalidQueueNameError,
    InvalidRequestError,
    RunNotFoundError,
    WorldClosedError,
)
from ...world import World
from ..clock import ManualClock
from .endpoint import Request
from .fixtures import MakeWorld
from .helpers import ENDINGS, OTHER_RUN, RUN, create_run, end_run, log_types, start_run
from .queue_helpers import PATIENCE_S, PREFIX, QUEUE_NAME, Recorder, soon, working
from .watched import Watched

OPERATIONS: dict[str, Callable[[World], Awaitable[object]]] = {
    "runs.get": lambda world: world.runs.get(RUN),
    "runs.get_many": lambda world: world.runs.get_many([RUN]),
    "runs.list": lambda world: world.runs.list(),
    "runs.wait": lambda world: world.runs.wait(RUN),
    "runs.create": lambda world: world.runs.create(workflow_name="greet"),
    "runs.cancel": lambda world: world.runs.cancel(RUN),
    "steps.get": lambda world: world.steps.get(RUN, "step_1"),
    "steps.list": lambda world: world.steps.list(RUN),
    "events.create": lambda world: world.events.create(RUN, {"eventType": "run_started"}),
    "events.get": lambda world: world.events.get(RUN, "evnt_1"),
    "events.list": lambda world: world.events.list(RUN),
    "events.list_by_correlation_id": lambda world: world.events.list_by_correlation_id("step_1"),
    "hooks.get": lambda world: world.hooks.get("hook_1"),
    "hooks.get_by_token": lambda world: world.hooks.get_by_token("token"),
    "hooks.list": lambda world: world.hooks.list(),
    "waits.get": lambda world: world.waits.get(RUN, "wait_1"),
    "waits.list": lambda world: world.waits.list(),
    "queue": lambda world: world.queue(QUEUE_NAME, {}),
    "messages.stats": lambda world: world.messages.stats(),
    "messages.get": lambda world: world.messages.get("msg_1"),
    "messages.list": lambda world: world.messages.list(),
    "messages.retry": lambda world: world.messages.retry("msg_1"),
    "messages.delete": lambda world: world.messages.delete("msg_1"),
    "streams.write": lambda world: world.streams.write(RUN, "s", b"a"),
    "streams.close": lambda world: world.streams.close(RUN, "s"),
    "streams.get": lambda world: anext(world.streams.get(RUN, "s")),
    "streams.get_chunks": lambda world: world.streams.get_chunks(RUN, "s"),
    "streams.get_info": lambda world: world.streams.get_info(RUN, "s"),
    "streams.list": lambda world: world.streams.list(RUN),
    "start": lambda world: world.start(),
}


@pytest.mark.anyio
async def test_b186_creating_a_world_does_no_io(make_world: MakeWorld) -> None:
    """Nothing is asked of the database before the first operation, and then it is opened first."""
    backend = Watched()
    world = make_world(wrap=backend.around)
    world.create_queue_handler(PREFIX, Recorder())
    repr(world)
    await world.get_deployment_id()
    world.asgi()
    reader = world.streams.get(RUN, "s")
    await reader.aclose()
    assert backend.asked == []
    await world.runs.list()
    assert backend.asked == ["open", "runs.list_runs"]


@pytest.mark.anyio
async def test_b186_concurrent_first_operations(make_world: MakeWorld) -> None:
    """20 first operations at once, of two Worlds, on an empty database: all work."""
    worlds = [make_world(real_time=True) for _ in range(2)]
    await asyncio.gather(
        *(create_run(worlds[number % 2], f"wrun_{number}") for number in range(10)),
        *(worlds[number % 2].queue(QUEUE_NAME, {"n": number}) for number in range(10)),
    )
    assert len((await worlds[0].runs.list()).data) == 10
    assert len((await worlds[1].messages.list()).data) == 10


@pytest.mark.anyio
async def test_b187_failed_opening_is_tried_again(make_world: MakeWorld) -> None:
    """The next operation opens the database, as if nothing had happened."""
    backend = Watched()
    world = make_world(wrap=backend.around)
    backend.fail(lambda verb: verb == "open")
    for _ in range(2):
        with pytest.raises(BackendError):
            await world.queue(QUEUE_NAME, {})
    assert backend.asked == ["open", "open"]
    backend.come_back()
    message_id = await world.queue(QUEUE_NAME, {})
    assert (await world.messages.get(message_id)).status == "pending"


@pytest.mark.anyio
async def test_b197_deployment_and_environment(make_world: MakeWorld) -> None:
    """A deployment id always; an environment only when it is set."""
    assert await make_world().get_deployment_id()
    assert make_world().get_environment() is None
    chosen = make_world(deployment_id="dpl_x", environment="production")
    assert (await chosen.get_deployment_id(), chosen.get_environment()) == ("dpl_x", "production")


@pytest.mark.anyio
async def test_run_key_comes_from_its_function(make_world: MakeWorld) -> None:
    """None without one; plain and awaitable functions both work."""

    async def later(run_id: str, *, deployment_id: str | None) -> bytes:
        return f"{run_id} {deployment_id}".encode()

    def now(run_id: str, *, deployment_id: str | None) -> bytes | None:
        return None

    assert await make_world().run_key(RUN) is None
    assert await make_world(run_key=now).run_key(RUN) is None
    assert await make_world(run_key=later).run_key(RUN, deployment_id="d") == b"wrun_one d"


@pytest.mark.anyio
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
async def test_b202_use_after_close(make_world: MakeWorld, operation: str, used: bool) -> None:
    """Every operation raises WorldClosedError, status 503, whether or not it was ever open."""
    world = make_world()
    if used:
        await world.runs.list()
    await world.close()
    with pytest.raises(WorldClosedError) as caught:
        await OPERATIONS[operation](world)
    assert caught.value.status == 503


@pytest.mark.anyio
async def test_b202_other_worlds_stay_open(world: World, rival: World) -> None:
    """Closing one handle on a database leaves the others alone."""
    await create_run(world)
    await rival.runs.get(RUN)
    await world.close()
    await start_run(rival, OTHER_RUN)
    assert (await rival.runs.get(RUN)).status == "pending"


@pytest.mark.anyio
async def test_b205_queue_handler_needs_neither_loop_nor_database(
    make_world: MakeWorld,
) -> None:
    """Made in a thread without an event loop, on a database that is away; then it answers."""
    backend = Watched()
    world = make_world(wrap=backend.around)
    backend.go_down()
    handler = Recorder()

    def build() -> object:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return world.create_queue_handler(PREFIX, handler)

    assert callable(await asyncio.to_thread(build))
    handle = world.create_queue_handler(PREFIX, handler)
    headers = {
        "x-vqs-queue-name": QUEUE_NAME,
        "x-vqs-message-id": "msg_1",
        "x-vqs-message-attempt": "1",
    }
    response = await handle(Request(headers=headers, body=b"{}"))
    assert (response.status, handler.ids) == (200, ["msg_1"])
    assert backend.asked == []


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["", "greet", "__wkf_other_", "__Foo_wkf_workflow_"])
async def test_b205_prefix_of_no_queue_is_refused(world: World, prefix: str) -> None:
    """A handler that could never be called is a mistake."""
    with pytest.raises(InvalidQueueNameError):
        world.create_queue_handler(prefix, Recorder())


@pytest.mark.anyio
async def test_world_works_while_its_block_runs(make_world: MakeWorld) -> None:
    """async with starts the worker and closes; lifespan does the same for an application."""
    handler = Recorder()
    world = make_world(real_time=True)
    world.create_queue_handler(PREFIX, handler)
    async with world as entered:
        assert entered is world
        await world.queue(QUEUE_NAME, {})
        await handler.called(1)
    with pytest.raises(WorldClosedError):
        await world.queue(QUEUE_NAME, {})
    other = make_world(real_time=True)
    other.create_queue_handler(PREFIX, handler)
    async with other.lifespan(object()):
        await other.queue(QUEUE_NAME, {})
        await handler.called(2)
    with pytest.raises(WorldClosedError):
        await other.start()


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
async def test_wait_returns_when_the_run_ends_here(
    world: World, clock: ManualClock, status: RunStatus
) -> None:
    """With a clock that stands still: woken by the end itself, not by looking again."""
    await start_run(world)
    waiting = asyncio.create_task(world.runs.wait(RUN, timeout=60))
    for _ in range(10):
        await asyncio.sleep(0.002)
    assert not waiting.done()
    ended = await end_run(world, RUN, status)
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting == ended


@pytest.mark.anyio
async def test_wait_returns_when_the_run_ends_elsewhere(make_world: MakeWorld) -> None:
    """Another World, with a handle of its own, ends the run."""
    world, rival = make_world(real_time=True), make_world(real_time=True)
    await start_run(world)
    waits = [asyncio.create_task(world.runs.wait(RUN)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert not any(wait.done() for wait in waits)
    ended = await end_run(rival)
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*waits) == [ended] * 3


@pytest.mark.anyio
async def test_wait_of_an_ended_run_returns_at_once(world: World) -> None:
    """Nothing to wait for, not even with a timeout of 0."""
    await start_run(world)
    ended = await end_run(world)
    assert await world.runs.wait(RUN) == await world.runs.wait(RUN, timeout=0) == ended


@pytest.mark.anyio
async def test_wait_gives_up_after_its_timeout(world: World, clock: ManualClock) -> None:
    """TimeoutError by the World's clock; the run is untouched. Unknown runs are not found."""
    run = await start_run(world)
    with pytest.raises(RunNotFoundError):
        await world.runs.wait("wrun_none", timeout=1)
    with pytest.raises(TimeoutError):
        await world.runs.wait(RUN, timeout=0)
    waiting = asyncio.create_task(world.runs.wait(RUN, timeout=5))
    async with asyncio.timeout(PATIENCE_S):
        while not waiting.done():
            clock.advance(0.5)
            await asyncio.sleep(0.002)
    with pytest.raises(TimeoutError):
        await waiting
    assert await world.runs.get(RUN) == run


@pytest.mark.anyio
async def test_wait_survives_a_short_outage(make_world: MakeWorld) -> None:
    """Three failures in a row, as a reader of a stream does (B182)."""
    backend = Watched()
    world = make_world(real_time=True, wrap=backend.around)
    await start_run(world)
    backend.fail(lambda verb: verb == "runs.get_run" and backend.failures < 3)
    waiting = asyncio.create_task(world.runs.wait(RUN))
    await backend.failed(3)
    ended = await end_run(world)
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting == ended


@pytest.mark.anyio
async def test_wait_raises_in_a_long_outage(make_world: MakeWorld) -> None:
    """It looks six times, and then says what is wrong."""
    backend = Watched()
    world = make_world(real_time=True, wrap=backend.around)
    await start_run(world)
    backend.fail(lambda verb: verb == "runs.get_run")
    with pytest.raises(BackendError):
        await world.runs.wait(RUN)
    assert backend.failures == 6


@pytest.mark.anyio
async def test_wait_can_be_cancelled(world: World) -> None:
    """Whoever waited is gone; others still learn of the end."""
    await start_run(world)
    gone, staying = (asyncio.create_task(world.runs.wait(RUN)) for _ in range(2))
    await asyncio.sleep(0.01)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    ended = await end_run(world)
    async with asyncio.timeout(PATIENCE_S):
        assert await staying == ended


@pytest.mark.anyio
async def test_wait_sees_the_end_that_a_handler_made(make_world: MakeWorld) -> None:
    """start, deliver, end: the whole way in one World."""
    world, done = make_world(real_time=True), asyncio.Event()

    async def work() -> None:
        await end_run(world)
        done.set()

    await start_run(world)
    await working(world, Recorder(work))
    await world.queue(QUEUE_NAME, {"runId": RUN})
    async with asyncio.timeout(PATIENCE_S):
        assert (await world.runs.wait(RUN)).status == "completed"
    await soon(done)


@pytest.mark.anyio
async def test_get_many_keeps_the_order_asked_for(world: World) -> None:
    """None where there is none; the same id twice is answered twice."""
    names = [f"wrun_{number}" for number in range(5)]
    for name in names:
        await create_run(world, name)
    asked = ["wrun_3", "wrun_none", "wrun_0", "wrun_3"]
    found = await world.runs.get_many(asked)
    assert [None if run is None else run.run_id for run in found] == [
        "wrun_3",
        None,
        "wrun_0",
        "wrun_3",
    ]
    assert found[0] == await world.runs.get("wrun_3")
    assert await world.runs.get_many([]) == []
    with pytest.raises(InvalidRequestError):
        await world.runs.get_many(["wrun_0", ""])


@pytest.mark.anyio
async def test_get_many_of_very_many(world: World) -> None:
    """More ids than a statement has parameters."""
    await create_run(world)
    asked = [f"wrun_none_{number}" for number in range(40_000)]
    found = await world.runs.get_many([*asked, RUN])
    assert [run.run_id for run in found if run is not None] == [RUN]
    assert len(found) == 40_001


@pytest.mark.anyio
async def test_cancel_many_answers_for_each(world: World) -> None:
    """The run, or in its place the error that its cancel met; others are not held up."""
    await start_run(world, "wrun_1")
    await create_run(world, "wrun_2")
    await start_run(world, "wrun_3")
    await end_run(world, "wrun_3")
    await start_run(world, "wrun_4")
    await world.runs.cancel("wrun_4")
    answers = await world.runs.cancel_many(
        ["wrun_1", "wrun_none", "wrun_3", "wrun_2", "wrun_4"], reason="enough"
    )
    assert isinstance(answers[1], RunNotFoundError)
    assert isinstance(answers[2], EntityConflictError)
    cancelled = [one for one in answers if isinstance(one, Run)]
    assert [(run.run_id, run.status) for run in cancelled] == [
        ("wrun_1", "cancelled"),
        ("wrun_2", "cancelled"),
        ("wrun_4", "cancelled"),
    ]
    assert (await log_types(world, "wrun_1"))[-1] == "run_cancelled"
    assert answers[4] == await world.runs.get("wrun_4")
    assert await world.runs.cancel_many([]) == []
