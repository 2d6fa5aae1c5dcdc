"""Hook events (B059 to B074)."""

# ruff: noqa: S106  # the token of a hook is no password

from __future__ import annotations

import pytest

from ...core.decision import Decision
from ...core.entities import Event, EventResult, Hook, RunStatus
from ...errors import (
    EntityConflictError,
    HookNotFoundError,
    InvalidRequestError,
    RunExpiredError,
)
from ...world import World
from ..clock import START, ManualClock
from .fixtures import MakeWorld, Plant
from .helpers import (
    ENDINGS,
    OTHER_RUN,
    RUN,
    all_events,
    create_hook,
    create_run,
    create_wait,
    end_run,
    log_types,
    race,
    receive,
    row,
    send,
    set_attributes,
    start_run,
    state_of,
    taking_turns,
)


async def two_runs(world: World) -> None:
    await start_run(world, RUN)
    await start_run(world, OTHER_RUN)


@pytest.mark.anyio
async def test_b059_hook_created(make_world: MakeWorld, clock: ManualClock) -> None:
    """hook_created: row and event; lookup by token and by id find it, with its owner."""
    world = make_world(owner_id="me", project_id="ours", environment="staging")
    await start_run(world)
    clock.advance(1)
    result = await send(
        world, RUN, "hook_created", "hook_1", token="t/ü 1", metadata=b"m", isWebhook=True
    )
    hook = await world.hooks.get_by_token("t/ü 1")
    assert result.hook == hook == await world.hooks.get("hook_1")
    assert (hook.run_id, hook.hook_id, hook.token) == (RUN, "hook_1", "t/ü 1")
    assert (hook.metadata, hook.is_webhook, hook.is_system) == (b"m", True, None)
    assert (hook.owner_id, hook.project_id, hook.environment) == ("me", "ours", "staging")
    assert hook.created_at == clock.now()
    event = (await all_events(world))[-1]
    assert row(result) == event
    assert (event.event_type, event.correlation_id) == ("hook_created", "hook_1")
    assert event.event_data == {"token": "t/ü 1", "metadata": b"m", "isWebhook": True}


@pytest.mark.anyio
async def test_b059_hook_owner_defaults(world: World) -> None:
    """Without configuration a hook's owner is default, default, development (spec 1.5)."""
    await create_run(world)
    hook = await create_hook(world)
    assert (hook.owner_id, hook.project_id, hook.environment) == (
        *("default", "default", "development"),
    )


@pytest.mark.anyio
@pytest.mark.parametrize("token", ["", None])
async def test_b059_empty_token_is_refused(world: World, token: str | None) -> None:
    """An empty or missing token: 400."""
    await start_run(world)
    with pytest.raises(InvalidRequestError):
        await send(world, RUN, "hook_created", "hook_1", token=token)
    assert len(await all_events(world)) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("event_type", ["hook_created", "hook_received", "hook_disposed"])
async def test_b059_hook_events_need_a_correlation_id(world: World, event_type: str) -> None:
    """Hook events without correlationId: 400 that says so."""
    await start_run(world)
    with pytest.raises(InvalidRequestError, match="correlationId"):
        await send(world, RUN, event_type, None, token="t", payload=b"")
    assert len(await all_events(world)) == 2


@pytest.mark.anyio
async def test_b060_token_held_by_another_run(world: World) -> None:
    """Same token, other run: a hook_conflict event, no exception, no row, holder untouched."""
    await two_runs(world)
    holder = await create_hook(world, RUN, "hook_1", "token")
    before = await state_of(world)
    result = await send(world, OTHER_RUN, "hook_created", "hook_1", token="token", metadata=b"m")
    event = (await all_events(world, OTHER_RUN))[-1]
    assert (row(result), result.hook) == (event, None)
    assert (event.event_type, event.correlation_id) == ("hook_conflict", "hook_1")
    assert event.event_data == {"token": "token", "conflictingRunId": RUN}
    assert await world.hooks.get_by_token("token") == holder
    assert [*(await world.hooks.list(OTHER_RUN)).data] == []
    assert await state_of(world) == before


@pytest.mark.anyio
async def test_b061_token_held_by_another_hook_of_the_run(world: World) -> None:
    """Same token, other hook of the same run: hook_conflict that names this run."""
    await start_run(world)
    holder = await create_hook(world, RUN, "hook_1", "token")
    result = await send(world, RUN, "hook_created", "hook_2", token="token")
    assert row(result).event_type == "hook_conflict"
    assert row(result).event_data == {"token": "token", "conflictingRunId": RUN}
    assert [*(await world.hooks.list(RUN)).data] == [holder]


@pytest.mark.anyio
async def test_b062_concurrent_creators_of_one_token(world: World, rival: World) -> None:
    """One token, eight runs, two Worlds: one hook_created, the rest hook_conflict."""
    for run in range(8):
        await start_run(world, f"wrun_{run}")
    for number in range(4):
        token = f"token {number}"
        results, lost = await race(
            *(
                send(one, f"wrun_{run}", "hook_created", f"hook_{number}", token=token)
                for run, one in enumerate(taking_turns(world, rival))
            )
        )
        assert not lost
        rows = [row(result) for result in results]
        [winner] = [event for event in rows if event.event_type == "hook_created"]
        hook = await rival.hooks.get_by_token(token)
        assert hook.run_id == winner.run_id
        for result, event in zip(results, rows, strict=True):
            assert (await all_events(world, event.run_id))[-1] == event
            if event != winner:
                assert (event.event_type, result.hook) == ("hook_conflict", None)
                assert event.event_data == {"token": token, "conflictingRunId": winner.run_id}


@pytest.mark.anyio
async def test_b062_concurrent_creators_in_one_run(world: World, rival: World) -> None:
    """One token, eight hooks of one run: one hook_created, the rest hook_conflict."""
    await start_run(world)
    results, lost = await race(
        *(
            send(one, RUN, "hook_created", f"hook_{number}", token="token")
            for number, one in enumerate(taking_turns(world, rival))
        )
    )
    assert not lost
    types = sorted(row(result).event_type for result in results)
    assert types == [*["hook_conflict"] * 7, "hook_created"]
    assert len((await world.hooks.list(RUN)).data) == 1


@pytest.mark.anyio
async def test_b063_repeated_create_is_a_conflict_error(world: World, rival: World) -> None:
    """Repeated create of the same live hook: 409, never a conflict with itself."""
    await start_run(world)
    await create_hook(world)
    before = await state_of(world)
    for token in ("token", "another token"):
        with pytest.raises(EntityConflictError):
            await send(world, RUN, "hook_created", "hook_1", token=token)
    assert await state_of(world) == before
    won, lost = await race(
        *(
            send(one, RUN, "hook_created", "hook_2", token="token 2")
            for one in taking_turns(world, rival)
        )
    )
    assert (len(won), len(lost)) == (1, 7)
    assert all(isinstance(error, EntityConflictError) for error in lost)
    assert (await log_types(world))[2:] == ["hook_created", "hook_created"]


@pytest.mark.anyio
async def test_b063_a_hook_without_its_event_is_finished(world: World, plant: Plant) -> None:
    """A hook row without its event, an old partial write: the event is appended (spec 2.7)."""
    run = await start_run(world)
    hook = Hook(
        run_id=RUN,
        hook_id="hook_1",
        token="token",
        owner_id="default",
        project_id="default",
        environment="development",
        created_at=START,
        spec_version=5,
    )
    await plant(RUN, lambda facts: Decision(run=run, hook=hook, result=EventResult()))
    assert await world.hooks.get_by_token("token") == hook
    result = await send(world, RUN, "hook_created", "hook_1", token="token")
    assert row(result).event_type == "hook_created"
    assert result.hook == hook
    assert (await log_types(world))[2:] == ["hook_created"]
    assert [*(await world.hooks.list(RUN)).data] == [hook]


@pytest.mark.anyio
async def test_b064_repeated_create_after_a_conflict(world: World, rival: World) -> None:
    """Repeated create after a conflict: the same conflict event, no new row, also when the
    token is free again, and also concurrently."""
    await two_runs(world)
    await create_hook(world, OTHER_RUN)
    first = row(await send(world, RUN, "hook_created", "hook_1", token="token"))
    for _ in range(2):
        results, lost = await race(
            *(
                send(one, RUN, "hook_created", "hook_1", token="token")
                for one in taking_turns(world, rival)
            )
        )
        assert not lost
        assert all(row(result) == first and result.hook is None for result in results)
        if (await world.hooks.list(OTHER_RUN)).data:
            await send(world, OTHER_RUN, "hook_disposed", "hook_1")
    assert (await log_types(world))[2:] == ["hook_conflict"]


@pytest.mark.anyio
async def test_b065_create_again_after_disposal(world: World) -> None:
    """Create again after disposal: 409, nothing written, the token stays free."""
    await start_run(world)
    await create_hook(world)
    await send(world, RUN, "hook_disposed", "hook_1")
    before = await state_of(world)
    with pytest.raises(EntityConflictError):
        await send(world, RUN, "hook_created", "hook_1", token="token")
    assert await state_of(world) == before
    with pytest.raises(HookNotFoundError):
        await world.hooks.get_by_token("token")


@pytest.mark.anyio
async def test_b066_token_reusable_after_disposal(world: World) -> None:
    """A token is free again after disposal, for the same run and for another."""
    await two_runs(world)
    for number, run_id in enumerate((RUN, RUN, OTHER_RUN)):
        hook = await create_hook(world, run_id, f"hook_{number}")
        assert await world.hooks.get_by_token("token") == hook
        await send(world, run_id, "hook_disposed", f"hook_{number}")


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
async def test_b066_token_reusable_after_the_end(world: World, status: RunStatus) -> None:
    """A token is free again after completion, failure and cancellation of its owner."""
    await two_runs(world)
    await create_hook(world, RUN)
    await end_run(world, RUN, status)
    hook = await create_hook(world, OTHER_RUN)
    assert await world.hooks.get_by_token("token") == hook


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
@pytest.mark.parametrize("started", [True, False])
async def test_b067_the_end_removes_hooks_and_waits(
    world: World, status: RunStatus, started: bool
) -> None:
    """The end of a run removes all its hooks and waits, not those of others."""
    await (start_run if started else create_run)(world)
    await start_run(world, OTHER_RUN)
    for number in range(3):
        await create_hook(world, RUN, f"hook_{number}", f"token {number}")
        await create_wait(world, RUN, f"wait_{number}")
    kept = await create_hook(world, OTHER_RUN, "hook_0", "kept")
    wait = await create_wait(world, OTHER_RUN, "wait_0")
    await end_run(world, RUN, status)
    assert [*(await world.hooks.list(RUN)).data] == []
    assert [*(await world.waits.list(RUN)).data] == []
    assert [*(await world.hooks.list()).data] == [kept]
    assert [*(await world.waits.list()).data] == [wait]
    for number in range(3):
        with pytest.raises(HookNotFoundError):
            await world.hooks.get_by_token(f"token {number}")
    assert await world.hooks.get("hook_0") == kept
    with pytest.raises(HookNotFoundError):
        await receive(world, RUN, "hook_0")


@pytest.mark.anyio
async def test_b068_hook_received(world: World) -> None:
    """hook_received: an event, the hook stays; many receives keep their order."""
    await start_run(world)
    hook = await create_hook(world)
    sent = [await receive(world, payload=number) for number in range(20)]
    events = (await all_events(world))[3:]
    assert events == sent
    assert [event.event_data for event in events] == [{"payload": n} for n in range(20)]
    assert {event.correlation_id for event in events} == {"hook_1"}
    assert await world.hooks.get("hook_1") == hook


@pytest.mark.anyio
@pytest.mark.parametrize("event_type", ["hook_received", "hook_disposed"])
async def test_b069_unknown_or_disposed_hook(world: World, event_type: str) -> None:
    """hook_received and hook_disposed on an unknown or disposed hook: HookNotFoundError."""
    await start_run(world)
    await create_hook(world, RUN, "hook_gone")
    await send(world, RUN, "hook_disposed", "hook_gone")
    before = await state_of(world)
    for hook_id in ("hook_gone", "hook_unknown"):
        with pytest.raises(HookNotFoundError) as caught:
            await send(world, RUN, event_type, hook_id, payload=b"")
        assert (caught.value.status, caught.value.hook_id) == (404, hook_id)
    assert await state_of(world) == before


@pytest.mark.anyio
@pytest.mark.parametrize("event_type", ["hook_received", "hook_disposed"])
async def test_b070_hook_of_another_run(world: World, event_type: str) -> None:
    """hook_received and hook_disposed naming another run's hook: HookNotFoundError."""
    await two_runs(world)
    hook = await create_hook(world, OTHER_RUN)
    before = await state_of(world)
    with pytest.raises(HookNotFoundError) as caught:
        await send(world, RUN, event_type, "hook_1", payload=b"")
    assert caught.value.hook_id == "hook_1"
    assert await state_of(world) == before
    assert await world.hooks.get("hook_1") == hook


@pytest.mark.anyio
async def test_b071_concurrent_dispose(world: World, rival: World) -> None:
    """Concurrent disposal: one event; losers get 404 or 409."""
    await start_run(world)
    for number in range(4):
        hook_id = f"hook_{number}"
        await create_hook(world, RUN, hook_id)
        won, lost = await race(
            *(send(one, RUN, "hook_disposed", hook_id) for one in taking_turns(world, rival))
        )
        assert (len(won), len(lost)) == (1, 7)
        assert {error.status for error in lost} <= {404, 409}
    assert (await log_types(world)).count("hook_disposed") == 4
    assert [*(await rival.hooks.list()).data] == []


@pytest.mark.anyio
async def test_b072_no_receive_behind_a_disposal(world: World, rival: World) -> None:
    """Concurrent dispose and receive: the log never has hook_received after hook_disposed."""
    await start_run(world)
    for number in range(8):
        hook_id = f"hook_{number}"
        await create_hook(world, RUN, hook_id)
        receives = [receive(one, RUN, hook_id) for one in taking_turns(world, rival)]
        disposer = rival if number % 2 else world
        calls = [*receives[:number], disposed_event(disposer, hook_id), *receives[number:]]
        won, lost = await race(*calls)
        assert {type(error) for error in lost} <= {HookNotFoundError}
        rows = (await world.events.list_by_correlation_id(hook_id, run_id=RUN)).data
        types = [event.event_type for event in rows]
        assert types == ["hook_created", *["hook_received"] * (len(won) - 1), "hook_disposed"]


async def disposed_event(world: World, hook_id: str) -> Event:
    return row(await send(world, RUN, "hook_disposed", hook_id))


@pytest.mark.anyio
@pytest.mark.parametrize("status", ENDINGS)
async def test_b073_hooks_and_attributes_on_a_terminal_run(world: World, status: RunStatus) -> None:
    """hook_created and attr_set on a terminal run: 410, not a conflict (spec C-7)."""
    await start_run(world)
    await end_run(world, RUN, status)
    before = await state_of(world)
    with pytest.raises(RunExpiredError) as caught:
        await create_hook(world)
    assert caught.value.status == 410
    assert not isinstance(caught.value, EntityConflictError)
    with pytest.raises(RunExpiredError) as caught:
        await set_attributes(world, "attr_1", ("k", "v"))
    assert caught.value.status == 410
    assert await state_of(world) == before


@pytest.mark.anyio
async def test_b074_unknown_token(world: World) -> None:
    """Lookup of an unknown token: HookNotFoundError with the token."""
    with pytest.raises(HookNotFoundError) as caught:
        await world.hooks.get_by_token("nobody's")
    assert (caught.value.status, caught.value.token) == (404, "nobody's")
