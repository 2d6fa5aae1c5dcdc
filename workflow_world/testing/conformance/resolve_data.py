"""Reads without payloads (B111)."""

# ruff: noqa: S106  # the token of a hook is no password

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from ...core.entities import ABSENT
from ...errors import InvalidRequestError
from ...world import World
from ..clock import START
from .helpers import (
    CREATION,
    RUN,
    SOON,
    all_events,
    create_run,
    plain,
    send,
    start_run,
)

STRIPPED: Final[Mapping[str, Mapping[str, Any] | None]] = {
    "run_created": {"deploymentId": "dpl_test", "workflowName": "greet", "attributes": {"k": "v"}},
    "run_started": None,
    "step_created": {"stepName": "add"},
    "step_started": None,
    "step_retrying": {"retryAfter": START},
    "step_completed": None,
    "step_failed": None,
    "hook_created": {"token": "token", "isWebhook": False},
    "hook_received": None,
    "hook_conflict": {"token": "token", "conflictingRunId": RUN},
    "hook_disposed": None,
    "wait_created": {"resumeAt": SOON},
    "attr_set": {"changes": [{"key": "k", "value": None}], "writer": {"type": "workflow"}},
    "run_completed": None,
    "run_failed": {"errorCode": "USER_ERROR"},
    "run_cancelled": {"cancelReason": "why"},
}
"""The event data that ``resolve_data="none"`` leaves (spec 3.5)."""


async def _tell_everything(world: World, resolve_data: str) -> dict[str, Any]:
    """Write every event type; the results by type."""
    results: dict[str, Any] = {}

    async def write(
        run_id: str, event_type: str, correlation_id: str | None = None, /, **data: Any
    ) -> None:
        event = {"eventType": event_type, "correlationId": correlation_id, "eventData": data}
        result = await world.events.create(run_id, event, resolve_data=resolve_data)  # type: ignore[arg-type]
        assert result.event is not None
        results[result.event.event_type] = result

    await write(RUN, "run_created", **CREATION, attributes={"k": "v"})
    await write(RUN, "run_started")
    for number in (1, 2):
        await write(RUN, "step_created", f"step_{number}", stepName="add", input=b"in")
    await write(RUN, "step_retrying", "step_1", error=b"e", retryAfter=START)
    await write(RUN, "step_started", "step_1")
    await write(RUN, "step_completed", "step_1", result=b"out")
    await write(RUN, "step_failed", "step_2", error={"message": "legacy"})
    await write(RUN, "hook_created", "hook_1", token="token", metadata=b"m", isWebhook=False)
    await write(RUN, "hook_received", "hook_1", payload=b"p")
    await write(RUN, "hook_created", "hook_2", token="token")
    await write(RUN, "wait_created", "wait_1", resumeAt=SOON)
    await write(
        RUN,
        "attr_set",
        "attr_1",
        changes=[{"key": "k", "value": None}],
        writer={"type": "workflow"},
    )
    return results


@pytest.mark.anyio
async def test_b111_resolve_data_none_on_events(world: World) -> None:
    """resolve_data none strips exactly the payload keys of events; all is the default."""
    results = await _tell_everything(world, "none")
    await send(world, RUN, "hook_disposed", "hook_1")
    await send(world, RUN, "run_completed", output=b"out")
    await start_run(world, "wrun_failed")
    await send(world, "wrun_failed", "run_failed", error=b"e", errorCode="USER_ERROR")
    await start_run(world, "wrun_cancelled")
    await send(world, "wrun_cancelled", "run_cancelled", cancelReason="why")
    assert {name: result.event.event_data for name, result in results.items()} == {
        name: STRIPPED[name] for name in results
    }
    for run_id in (RUN, "wrun_failed", "wrun_cancelled"):
        full = await all_events(world, run_id)
        assert [
            plain(event) for event in (await world.events.list(run_id, resolve_data="all")).data
        ] == full
        assert (full[0].event_data or {})["input"] == b"in"
        bare = [*(await world.events.list(run_id, resolve_data="none")).data]
        for event, stripped in zip(full, bare, strict=True):
            assert (stripped.event_id, stripped.position) == (event.event_id, event.position)
            if run_id == RUN or event.event_type not in ("run_created", "run_started"):
                assert stripped.event_data == STRIPPED[event.event_type], event.event_type
            one = await world.events.get(run_id, event.event_id, resolve_data="none")
            assert plain(one) == plain(stripped)
            assert plain(await world.events.get(run_id, event.event_id)) == event
    hook_rows = await world.events.list_by_correlation_id("hook_1", resolve_data="none")
    assert [event.event_data for event in hook_rows.data] == [
        *(STRIPPED["hook_created"], None, None)
    ]


@pytest.mark.anyio
async def test_b111_resolve_data_none_on_entities(world: World) -> None:
    """resolve_data none strips input, output, binary errors and metadata, nothing else."""
    results = await _tell_everything(world, "none")
    assert results["run_created"].run.input is ABSENT
    assert results["step_started"].step.input is ABSENT
    assert results["step_started"].step.error is ABSENT
    assert results["step_failed"].step.error == {"message": "legacy"}
    assert results["hook_created"].hook.metadata is ABSENT
    hook = await world.hooks.get("hook_1")
    assert hook.metadata == b"m"
    for bare in (
        await world.hooks.get("hook_1", resolve_data="none"),
        await world.hooks.get_by_token("token", resolve_data="none"),
        (await world.hooks.list(RUN, resolve_data="none")).data[0],
    ):
        assert (bare.metadata, bare.token, bare.is_webhook) == (ABSENT, "token", False)
    await send(world, RUN, "run_completed", output=b"out")
    step = await world.steps.get(RUN, "step_1")
    assert (step.input, step.output, step.error) == (b"in", b"out", b"e")
    listed = {one.step_id: one for one in (await world.steps.list(RUN, resolve_data="none")).data}
    for bare_step in (
        await world.steps.get(RUN, "step_1", resolve_data="none"),
        listed["step_1"],
    ):
        assert (bare_step.input, bare_step.output, bare_step.error) == (ABSENT, ABSENT, ABSENT)
        assert (bare_step.step_name, bare_step.status, bare_step.attempt) == ("add", "completed", 1)
    assert listed["step_2"].error == {"message": "legacy"}
    await start_run(world, "wrun_binary")
    await send(world, "wrun_binary", "run_failed", error=b"e", errorCode="C")
    await start_run(world, "wrun_legacy")
    await send(world, "wrun_legacy", "run_failed", error={"message": "m"})
    bare_runs = {run.run_id: run for run in (await world.runs.list(resolve_data="none")).data}
    for run_id, expected in (
        (RUN, ABSENT),
        ("wrun_binary", ABSENT),
        ("wrun_legacy", {"message": "m"}),
    ):
        full = await world.runs.get(run_id)
        assert full.input == b"in"
        for bare_run in (
            bare_runs[run_id],
            await world.runs.get(run_id, resolve_data="none"),
        ):
            assert (bare_run.input, bare_run.output) == (ABSENT, ABSENT)
            assert bare_run.error == expected
            assert bare_run.error_code == full.error_code
            assert (bare_run.status, bare_run.attributes) == (full.status, full.attributes)
    assert {run.run_id for run in (await world.runs.list()).data if run.input == b"in"} == {
        *bare_runs
    }


@pytest.mark.anyio
async def test_b111_resolve_data_takes_two_values(world: World) -> None:
    """Anything but all and none is a 400."""
    await create_run(world)
    with pytest.raises(InvalidRequestError):
        await world.runs.get(RUN, resolve_data="some")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError):
        await world.events.list(RUN, resolve_data="")  # type: ignore[arg-type]
