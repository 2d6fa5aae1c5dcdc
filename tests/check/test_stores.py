"""Real stores, damaged behind the package's back: each damage gives exactly its finding."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from workflow_world.check import KINDS, Report, apply, check, plan_repairs
from workflow_world.codec import encode
from workflow_world.memory import MemoryBackend
from workflow_world.testing import ManualClock
from workflow_world.world import World

from .damages import DAMAGES, LAST, RUNS, Damage, damage, event, hurt
from .stores import (
    BUSY,
    ENDED,
    GONE,
    PENDING,
    STEPPING,
    Store,
    beginning,
    make,
    message_ids,
)

pytestmark = pytest.mark.anyio


def found(report: Report) -> list[tuple[str, str | None, str | None]]:
    return sorted(
        ((one.kind, one.run_id, one.subject) for one in report.findings),
        key=lambda row: tuple(str(part) for part in row),
    )


def pass_time(world: World, seconds: float) -> None:
    assert isinstance(world.clock, ManualClock)
    world.clock.advance(seconds)


def test_every_kind_of_finding_is_tried() -> None:
    elsewhere = {"hook-token", "wait-differs", "message-orphan"}
    assert {one.kind for one in DAMAGES} | elsewhere == set(KINDS)


async def test_a_sound_store_is_clean(store: Store) -> None:
    report = await store.check()
    assert found(report) == []
    assert report.clean
    assert report.seen == {
        "runs": 5,
        "events": 40,
        "steps": 5,
        "hooks": 1,
        "messages": 6,
        "streams": 2,
        "chunks": 6,
    }


@pytest.mark.parametrize("one", DAMAGES, ids=lambda one: one.kind)
async def test_each_damage_has_exactly_its_finding(store: Store, one: Damage) -> None:
    hurt(store, one)
    report = await store.check()
    assert len(report.findings) == 1, report.findings
    kind, run, subject = found(report)[0]
    assert (kind, run) == (one.kind, one.run)
    assert one.subject in ("*", subject)
    assert report.kinds == {one.kind: 1}


@pytest.mark.parametrize("one", [one for one in DAMAGES if one.repaired], ids=lambda one: one.kind)
async def test_a_repair_leaves_nothing_to_do(store: Store, one: Damage) -> None:
    hurt(store, one)
    world = store.world()
    try:
        plan = plan_repairs(await check(world))
        assert plan.left == ()
        assert len(plan.repairs) == 1
        outcomes = await apply(world, plan)
        assert [(each.done, each.repair) for each in outcomes] == [(True, plan.repairs[0])], (
            outcomes
        )
        report = await check(world)
        assert found(report) == []
        assert plan_repairs(report) == replace(plan, repairs=(), left=())
        # The first plan once more changes nothing either.
        assert all(each.done for each in await apply(world, plan))
        assert found(await check(world)) == []
    finally:
        await world.close()


@pytest.mark.parametrize(
    "one", [one for one in DAMAGES if not one.repaired], ids=lambda one: one.kind
)
async def test_what_is_not_repaired_is_left_alone(store: Store, one: Damage) -> None:
    hurt(store, one)
    world = store.world()
    try:
        plan = plan_repairs(await check(world))
    finally:
        await world.close()
    assert plan.repairs == ()
    assert [each.kind for each in plan.left] == [one.kind]
    assert KINDS[one.kind].advice


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "change",
    ["attributes = '{'", "created_at = 'soon'", "created_at = 253402300800000"],
)
async def test_an_unreadable_run_behind_all_ids(store: Store, change: str) -> None:
    """Its id sorts behind those that a World makes, or its time behind all times."""
    columns = "status, deployment_id, workflow_name, attributes, updated_at"
    store.damage(
        f"INSERT INTO workflow_runs (run_id, created_at, {columns}) "  # noqa: S608
        f"SELECT 'xtra', created_at, {columns} FROM workflow_runs WHERE run_id = :pending",
        f"UPDATE workflow_runs SET {change} WHERE run_id = 'xtra'",  # noqa: S608
        **RUNS,
    )
    report = await store.check()
    assert set(report.kinds) == {"run-unreadable"}
    assert all("'xtra'" in one.detail for one in report.findings)


async def test_an_orphan_message(store: Store) -> None:
    world = store.world()
    try:
        orphan = await world.queue("__wkf_workflow_greet", {"runId": GONE})
        young = await check(world)
        assert found(young) == []
        pass_time(world, 60)
        report = await check(world)
        assert found(report) == [("message-orphan", GONE, orphan)]
        plan = plan_repairs(report)
        assert [one.action for one in plan.repairs] == ["delete-message"]
        assert [one.done for one in await apply(world, plan)] == [True]
        assert found(await check(world)) == []
    finally:
        await world.close()


async def test_an_orphan_whose_run_came_is_kept(store: Store) -> None:
    world = store.world()
    try:
        orphan = await world.queue("__wkf_workflow_greet", {"runId": GONE})
        pass_time(world, 60)
        plan = plan_repairs(await check(world))
        creation = {"deploymentId": "d", "workflowName": "greet", "input": b""}
        await world.events.create(GONE, {"eventType": "run_created", "eventData": creation})
        assert [one.text for one in await apply(world, plan)] == ["it is not needed any more"]
        assert (await world.messages.get(orphan)).status == "pending"
    finally:
        await world.close()


async def test_two_hooks_with_one_token(store: Store) -> None:
    """No database of ours lets it happen: its index has to go first."""
    token = f"first of {BUSY}"
    data = encode({"token": token})
    creation = event("pending", "hook_created", "hook_1", 5)
    store.damage(
        "DROP INDEX uq_hooks_token",
        creation,
        "UPDATE workflow_events SET event_data = :data WHERE event_id = :last",
        "INSERT INTO workflow_hooks (run_id, hook_id, token, owner_id, project_id, environment, "
        "created_at, spec_version) SELECT :pending, 'hook_1', :token, 'o', 'p', 'e', created_at, 5 "
        "FROM workflow_events WHERE event_id = :last",
        **RUNS,
        data=data,
        last=LAST,
        token=token,
    )
    report = await store.check()
    assert report.kinds == {"hook-token": 1}
    assert plan_repairs(report).left == report.findings


async def test_many_damages_at_once(store: Store) -> None:
    """All of them are found, and what can be repaired is."""
    chosen = [one for one in DAMAGES if one.repaired and one.run in (BUSY, PENDING)]
    for one in chosen:
        if one.kind not in ("run-stuck", "hook-unexpected"):
            hurt(store, one)
    report = await store.check()
    assert set(report.kinds) == {
        "run-differs",
        "step-differs",
        "step-missing",
        "hook-missing",
        "wait-due",
        "lease-expired",
    }
    world = store.world()
    try:
        outcomes = await apply(world, plan_repairs(report))
        assert all(each.done for each in outcomes), outcomes
        assert {each.repair.action for each in outcomes} == {"rebuild", "free-leases"}
    finally:
        await world.close()
    assert found(await store.check()) == []


async def test_rows_behind_unreadable_ones_are_still_checked(store: Store) -> None:
    store.damage(
        "UPDATE workflow_runs SET attributes = '{' WHERE run_id IN (:busy, :pending)",
        "UPDATE workflow_runs SET error_code = 'X' WHERE run_id = :stepping",
        "UPDATE queue_messages SET headers = '{' WHERE run_id = :busy AND step_id IS NULL",
        "UPDATE queue_messages SET payload = x'ff' WHERE run_id = :stepping",
        **RUNS,
    )
    report = await store.check()
    lost = message_ids(store)[BUSY]
    assert [row for row in found(report) if row[0] != "message-body"] == [
        ("message-unreadable", None, lost),
        ("run-differs", STEPPING, STEPPING),
        ("run-unreadable", BUSY, BUSY),
        ("run-unreadable", PENDING, PENDING),
    ]
    assert report.kinds["message-body"] == 1


async def test_an_unreadable_row_whose_id_is_no_ulid(store: Store) -> None:
    world = store.world()
    creation = {"deploymentId": "d", "workflowName": "greet", "input": b""}
    await world.events.create("mine", {"eventType": "run_created", "eventData": creation})
    await world.close()
    store.damage("UPDATE workflow_runs SET attributes = '{' WHERE run_id = 'mine'")
    report = await store.check()
    assert found(report) == [("run-unreadable", None, None)]
    assert "cannot be named" in report.findings[0].detail


async def test_findings_are_bounded_and_counted(store: Store) -> None:
    store.damage("UPDATE workflow_runs SET error_code = 'X'")
    report = await store.check(limit=2)
    assert (len(report.findings), report.total) == (2, 5)
    assert report.kinds == {"run-differs": 5}


async def test_progress_and_no_streams(store: Store) -> None:
    told: list[tuple[str, int]] = []
    report = await store.check(streams=False, progress=lambda *news: told.append(news))
    assert told == [("runs", 5), ("hooks", 1), ("messages", 6)]
    assert "chunks" not in report.seen


async def test_a_repair_yields_to_what_happened_since(store: Store) -> None:
    """The plan is old: the run has moved on, and keeps what it has become."""
    hurt(
        store, damage("", None, None, "UPDATE workflow_steps SET attempt = 9 WHERE run_id = :busy")
    )
    world = store.world()
    try:
        plan = plan_repairs(await check(world))
        await world.events.create(BUSY, {"eventType": "run_cancelled"})
        assert all(each.done for each in await apply(world, plan))
        assert (await world.runs.get(BUSY)).status == "cancelled"
        assert found(await check(world)) == []
    finally:
        await world.close()


async def test_a_hook_whose_token_was_taken_is_not_restored(store: Store) -> None:
    hurt(store, damage("", None, None, "DELETE FROM workflow_hooks WHERE run_id = :busy"))
    world = store.world()
    try:
        plan = plan_repairs(await check(world))
        data = {"token": f"first of {BUSY}"}
        await world.events.create(
            STEPPING, {"eventType": "hook_created", "correlationId": "h", "eventData": data}
        )
        (outcome,) = await apply(world, plan)
        assert not outcome.done
        assert "hook-missing" in outcome.text
        assert (await world.hooks.get_by_token(f"first of {BUSY}")).run_id == STEPPING
    finally:
        await world.close()


async def test_a_table_prefix(tmp_path: Any) -> None:
    path = tmp_path / "p.db"
    store = await make(f"file:{path}", path, beginning())
    other = store.world(table_prefix="x_")
    try:
        assert (await check(other)).seen.get("runs", 0) == 0
    finally:
        await other.close()


# --- the other backend -----------------------------------------------------------------------


async def in_memory() -> tuple[Store, World]:
    store = await make(f"memory://{uuid4().hex}", None, beginning())  # type: ignore[arg-type]
    return store, store.world()


async def test_memory_is_clean_and_can_be_damaged() -> None:
    store, world = await in_memory()
    assert found(await store.check()) == []
    backend = world.backend
    assert isinstance(backend, MemoryBackend)
    database = backend.runs._database
    step, hook = database.steps[BUSY, "step_1"], database.hooks[BUSY, "hook_1"]
    database.steps[BUSY, "step_1"] = replace(step, output=b"other")
    del database.hooks[BUSY, "hook_1"]
    database.hooks[ENDED, "hook_1"] = replace(hook, run_id=ENDED)
    for message_id, message in list(database.messages.items()):
        if message.run_id == PENDING:
            del database.messages[message_id]
    report = await store.check()
    assert found(report) == [
        ("hook-missing", BUSY, "hook_1"),
        ("hook-of-ended-run", ENDED, "hook_1"),
        ("run-stuck", PENDING, PENDING),
        ("step-differs", BUSY, "step_1"),
    ]
    outcomes = await apply(world, plan_repairs(report))
    # The token of one is held by the other until that one is gone, whatever the order.
    if not all(one.done for one in outcomes):
        outcomes = await apply(world, plan_repairs(await store.check()))
    assert all(one.done for one in outcomes), outcomes
    assert found(await store.check()) == []
    assert database.steps[BUSY, "step_1"] == step
    await world.close()


async def test_a_run_that_changes_all_the_while_is_not_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Damage that is really there, but each look is overtaken by an event."""
    _, world = await in_memory()
    backend = world.backend
    assert isinstance(backend, MemoryBackend)
    database = backend.runs._database
    database.runs[BUSY] = replace(database.runs[BUSY], error_code="X")
    listed = backend.runs.list_steps

    async def overtaken(query: Any) -> Any:
        rows = await listed(query)
        if query.run_id == BUSY:
            step = {"eventType": "step_started", "correlationId": "step_2"}
            await world.events.create(BUSY, step)
        return rows

    monkeypatch.setattr(backend.runs, "list_steps", overtaken)
    report = await check(world)
    assert report.clean
    assert list(report.busy) == [BUSY]
    monkeypatch.undo()
    assert (await check(world)).kinds == {"run-differs": 1}
    await world.close()
    await asyncio.sleep(0)
