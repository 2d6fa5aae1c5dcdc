"""The prepared databases: as many rows as they say, and the World reads them as its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.filled import Filled, copy_into
from benchmarks.plan import TINY, Sizes
from benchmarks.stores import database_url
from workflow_world import create_world

_SIZES = Sizes(other_runs=5, other_messages=7)


def test_an_empty_contender_has_none(tmp_path: Path) -> None:
    assert Filled(tmp_path, TINY).path("ours") is None


@pytest.mark.anyio
async def test_other_runs_are_finished_and_have_their_logs(tmp_path: Path) -> None:
    copy = await asyncio.to_thread(_copy_of, "ours-10k-runs", tmp_path)
    world = create_world(database_url(copy))
    try:
        runs = (await world.runs.list()).data
        assert len({run.run_id for run in runs}) == 5
        for run in runs:
            assert run.status == "completed"
            log = (await world.events.list(run.run_id)).data
            assert [event.event_type for event in log] == [
                "run_created",
                "run_started",
                *["step_created", "step_started", "step_completed"] * 3,
                "run_completed",
            ]
            steps = (await world.steps.list(run.run_id)).data
            assert {step.step_id for step in steps} == {
                event.correlation_id for event in log if event.correlation_id
            }
    finally:
        await world.close()


@pytest.mark.anyio
async def test_other_messages_are_completed(tmp_path: Path) -> None:
    copy = await asyncio.to_thread(_copy_of, "ours-1m-messages", tmp_path)
    world = create_world(database_url(copy))
    try:
        messages = (await world.messages.list()).data
        assert [message.status for message in messages] == ["completed"] * 7
        assert len({message.run_id for message in messages}) == 7
    finally:
        await world.close()


def _copy_of(contender: str, tmp_path: Path) -> Path:
    kept, copy = tmp_path / "kept", tmp_path / "copy"
    kept.mkdir()
    copy.mkdir()
    filled = Filled(kept, _SIZES)
    prepared = filled.path(contender)
    assert prepared is not None
    assert filled.path(contender) == prepared, "built once"
    copy_into(copy, prepared)
    return copy
