"""Resume ids: what happens once however often it is asked for (B075 to B082)."""

from __future__ import annotations

import pytest

from ...core.entities import RunStatus
from ...errors import (
    EntityConflictError,
    HookNotFoundError,
    HookResumeConflictError,
)
from ...ids import new_ulid
from ...world import World
from .helpers import (
    ENDINGS,
    OTHER_RUN,
    RUN,
    all_events,
    create_hook,
    end_run,
    log_types,
    race,
    receive,
    send,
    start_run,
    state_of,
    taking_turns,
)


@pytest.mark.anyio
@pytest.mark.parametrize("digest", [None, "sha256:abc"])
async def test_b075_resume_id_happens_once(world: World, digest: str | None) -> None:
    """Resume id: the first write appends with resumeId, the second returns the same event."""
    await start_run(world)
    await create_hook(world)
    resume_id = new_ulid()
    first = await receive(world, resume_id=resume_id, digest=digest)
    assert first.resume_id == resume_id
    again = await receive(world, payload=b"ignored", resume_id=resume_id, digest=digest)
    assert again == first
    assert (await log_types(world))[3:] == ["hook_received"]


@pytest.mark.anyio
async def test_resume_id_that_only_looks_like_a_ulid(world: World) -> None:
    """Its time would be after the year 9999: it is an id like any other."""
    await start_run(world)
    await create_hook(world)
    event = await receive(world, resume_id="Z" * 26)
    assert (event.resume_id, event.occurred_at) == ("Z" * 26, None)


@pytest.mark.anyio
async def test_b076_concurrent_resumes(world: World, rival: World) -> None:
    """Resume id, 10 concurrent writers in two Worlds: one row, all the same event id."""
    await start_run(world)
    await create_hook(world)
    for number in range(4):
        resume_id = new_ulid()
        won, lost = await race(
            *(
                receive(one, payload=number, resume_id=resume_id, digest="d")
                for one in taking_turns(world, rival, count=10)
            )
        )
        assert not lost
        assert len({event.event_id for event in won}) == 1
        assert (await all_events(rival))[-1] == won[0]
    assert (await log_types(world))[3:] == ["hook_received"] * 4


@pytest.mark.anyio
async def test_b077_resume_id_of_another_hook_or_payload(world: World) -> None:
    """Resume id with another hook or another digest: HookResumeConflictError."""
    await start_run(world)
    await create_hook(world, RUN, "hook_1", "token 1")
    await create_hook(world, RUN, "hook_2", "token 2")
    await receive(world, resume_id="resume", digest="one")
    before = await state_of(world)
    for hook_id, digest in (("hook_2", "one"), ("hook_2", None), ("hook_1", "two")):
        with pytest.raises(HookResumeConflictError) as caught:
            await receive(world, RUN, hook_id, resume_id="resume", digest=digest)
        assert caught.value.status == 409
        assert isinstance(caught.value, EntityConflictError)
    assert await state_of(world) == before


@pytest.mark.anyio
@pytest.mark.parametrize("status", [None, *ENDINGS])
async def test_b078_resume_converges_after_the_end(world: World, status: RunStatus | None) -> None:
    """A repeated resume id converges after disposal and after the run ended."""
    await start_run(world)
    await create_hook(world)
    first = await receive(world, resume_id="resume", digest="d")
    if status is None:
        await send(world, RUN, "hook_disposed", "hook_1")
    else:
        await end_run(world, RUN, status)
    before = await state_of(world)
    assert await receive(world, resume_id="resume", digest="d") == first
    with pytest.raises(HookResumeConflictError):
        await receive(world, resume_id="resume", digest="other")
    with pytest.raises(HookNotFoundError):
        await receive(world, resume_id="new resume", digest="d")
    assert await state_of(world) == before


@pytest.mark.anyio
@pytest.mark.parametrize(("first", "second"), [("d", None), (None, "d")])
async def test_b079_absent_digest_converges(
    world: World, first: str | None, second: str | None
) -> None:
    """A digest that is absent on one side converges."""
    await start_run(world)
    await create_hook(world)
    event = await receive(world, resume_id="resume", digest=first)
    assert await receive(world, resume_id="resume", digest=second) == event
    assert (await log_types(world))[3:] == ["hook_received"]


@pytest.mark.anyio
async def test_b080_resume_id_comes_back_in_lists(world: World) -> None:
    """resumeId is returned by every list and read, and absent on plain receives."""
    await start_run(world)
    await create_hook(world)
    first, second = await receive(world, resume_id="resume"), await receive(world)
    assert [event.resume_id for event in await all_events(world)] == [*[None] * 3, "resume", None]
    by_id = (await world.events.list_by_correlation_id("hook_1")).data
    assert [event.resume_id for event in by_id] == [None, "resume", None]
    assert (await world.events.get(RUN, first.event_id)).resume_id == "resume"
    assert (await world.events.get(RUN, second.event_id)).resume_id is None


@pytest.mark.anyio
async def test_b081_distinct_resume_ids_append_distinct_events(world: World) -> None:
    """Distinct resume ids, and one resume id in two runs, append distinct events."""
    await start_run(world, RUN)
    await start_run(world, OTHER_RUN)
    await create_hook(world, RUN, "hook_1", "token 1")
    await create_hook(world, OTHER_RUN, "hook_1", "token 2")
    sent = [
        await receive(world, run_id, resume_id=resume_id, digest="d")
        for run_id in (RUN, OTHER_RUN)
        for resume_id in ("a", "b")
    ]
    assert len({(event.run_id, event.event_id) for event in sent}) == 4
    assert (await log_types(world))[3:] == ["hook_received"] * 2
    assert (await log_types(world, OTHER_RUN))[3:] == ["hook_received"] * 2


@pytest.mark.anyio
async def test_b082_a_failed_resume_leaves_no_claim(world: World) -> None:
    """A resume that failed because the hook is gone leaves no claim on its id."""
    await start_run(world)
    await create_hook(world, RUN, "hook_1")
    await send(world, RUN, "hook_disposed", "hook_1")
    with pytest.raises(HookNotFoundError):
        await receive(world, RUN, "hook_1", resume_id="resume", digest="one")
    await create_hook(world, RUN, "hook_2")
    event = await receive(world, RUN, "hook_2", resume_id="resume", digest="two")
    assert event.resume_id == "resume"
    assert (await all_events(world))[-1] == event
