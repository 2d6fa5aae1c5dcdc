"""The rules by themselves: legal histories have no finding, each damage has exactly its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ledger import DATA, OWNER, RUN, Ledger
from test_decide_walk import RUNS, START, accepted, proposals

from workflow_world.check import KINDS
from workflow_world.core.entities import Event, Hook, Step
from workflow_world.core.fold import waits_of
from workflow_world.core.invariants import (
    Finding,
    RunRows,
    differences,
    run_findings,
    same,
    with_owner,
)
from workflow_world.testing.clock import START as NOON

Damage = Callable[[RunRows], RunRows]


def rows_of(ledger: Ledger, run_id: str = RUN) -> RunRows:
    database = ledger.database
    log = ledger.log(run_id)
    return RunRows(
        run_id=run_id,
        run=ledger.run(run_id),
        log=log,
        steps={key: row for (owner, key), row in database.steps.items() if owner == run_id},
        hooks={key: row for (owner, key), row in database.hooks.items() if owner == run_id},
        waits=waits_of(log),
    )


def found(rows: RunRows) -> list[tuple[str, str | None]]:
    return sorted((one.kind, one.subject) for one in run_findings(rows))


def kinds(rows: RunRows) -> list[str]:
    return [kind for kind, _ in found(rows)]


LIFE = [
    ("step_created", "s"),
    ("step_started", "s"),
    ("step_retrying", "s"),
    ("step_started", "s"),
    ("step_completed", "s"),
    ("step_created", "t"),
    ("step_started", "t"),
    ("hook_created", "h"),
    ("hook_received", "h"),
    ("hook_created", "i"),
    ("hook_disposed", "i"),
    ("wait_created", "w"),
    ("wait_completed", "w"),
    ("wait_created", "x"),
    ("attr_set", "a"),
]


def life(*more: tuple[str, str | None], spec_version: int = 5) -> Ledger:
    """A run with a bit of everything, one second apart: its last event is at position 17."""
    ledger = Ledger()
    ledger.start(spec_version=spec_version)
    for event_type, correlation_id in (*LIFE, *more):
        ledger.now += timedelta(seconds=1)
        data: dict[str, Any] | None = None
        if event_type == "hook_created":
            data = {"token": f"token of {correlation_id}"}
        rest = {"resume_id": "r"} if event_type == "hook_received" else {}
        ledger.send(event_type, correlation_id, data, **rest)
    return ledger


ENDED = (("run_completed", None), ("step_completed", "t"))


@settings(deadline=None, max_examples=200)
@given(st.lists(proposals(), min_size=5, max_size=60))
def test_legal_histories_have_no_finding(history: list[dict[str, Any]]) -> None:
    ledger = Ledger()
    for run_id, kind in START:
        ledger.send(kind, run_id=run_id, data=dict(DATA.get(kind, {})))
    for proposal in history:
        accepted(ledger, proposal)
    for run_id in RUNS:
        assert found(rows_of(ledger, run_id)) == []


@pytest.mark.parametrize("spec_version", [2, 5, 6, 7])
@pytest.mark.parametrize("more", [(), ENDED])
def test_a_whole_life_has_no_finding(spec_version: int, more: Any) -> None:
    assert found(rows_of(life(*more, spec_version=spec_version))) == []


# --- damages ---------------------------------------------------------------------------------


def event(place: int, /, **changes: Any) -> Damage:
    """The event at this position with other fields."""

    def damage(rows: RunRows) -> RunRows:
        log = [replace(one, **changes) if one.position == place else one for one in rows.log]
        return replace(rows, log=log)

    return damage


def without(position: int) -> Damage:
    return lambda rows: replace(rows, log=[one for one in rows.log if one.position != position])


def behind(event_type: str, correlation_id: str | None = None, **changes: Any) -> Damage:
    """One more event, well formed, at the end."""

    def damage(rows: RunRows) -> RunRows:
        last = rows.log[-1]
        data = DATA.get(event_type)
        new = replace(
            last,
            position=last.position + 1,
            event_id="evnt_7" + "Z" * 25,
            event_type=event_type,
            correlation_id=correlation_id,
            event_data=data,
            due_at=None,
            **changes,
        )
        return replace(rows, log=[*rows.log, new])

    return damage


def run(**changes: Any) -> Damage:
    def damage(rows: RunRows) -> RunRows:
        assert rows.run is not None
        return replace(rows, run=replace(rows.run, **changes))

    return damage


def table(name: str, key: str, **changes: Any) -> Damage:
    """A step, hook or wait with other fields."""

    def damage(rows: RunRows) -> RunRows:
        stored = dict(getattr(rows, name))
        stored[key] = replace(stored[key], **changes)
        return replace(rows, **{name: stored})

    return damage


def dropped(name: str, key: str) -> Damage:
    def damage(rows: RunRows) -> RunRows:
        return replace(rows, **{name: {k: v for k, v in getattr(rows, name).items() if k != key}})

    return damage


def added(name: str, key: str, row: Any) -> Damage:
    return lambda rows: replace(rows, **{name: {**getattr(rows, name), key: row}})


def nothing_in_the_log(rows: RunRows) -> RunRows:
    return replace(rows, log=[])


def unreadable(kind: str, subject: str) -> Damage:
    one = Finding(kind=kind, run_id=RUN, subject=subject, detail="no CBOR")

    def damage(rows: RunRows) -> RunRows:
        steps = {key: row for key, row in rows.steps.items() if key != subject}
        return replace(rows, unreadable=[one], steps=steps)

    return damage


NEW_STEP = Step(
    run_id=RUN, step_id="new", step_name="n", status="pending", created_at=NOON, updated_at=NOON
)
NEW_HOOK = Hook(
    run_id=RUN,
    hook_id="new",
    token="u",  # noqa: S106
    owner_id="",
    project_id="",
    environment="",
    created_at=NOON,
)
LATER = NOON + timedelta(days=1)
STARTED = 2
"""Position of ``run_started``; the events of LIFE follow from 3 on."""

DAMAGES: list[tuple[Damage, str]] = [
    (nothing_in_the_log, "run-without-log"),
    (without(1), "log-gap"),
    (without(9), "log-gap"),
    (event(7, position=70), "log-gap"),
    (event(4, event_type="from_the_future"), "log-malformed"),
    (event(4, correlation_id=None), "log-malformed"),
    (event(4, correlation_id="\0"), "log-malformed"),
    (event(3, event_data={}), "log-malformed"),
    (event(3, event_data=None), "log-malformed"),
    (event(3, event_data=[1]), "log-malformed"),
    (event(14, event_data={"resumeAt": "noon"}), "log-malformed"),
    (event(17, event_data={"changes": 5, "writer": {}}), "log-malformed"),
    (event(5, event_id="evnt_5"), "log-id"),
    (event(5, event_id="step_" + "0" * 26), "log-id"),
    (event(5, event_id="evnt_" + "0" * 26), "log-id"),
    (event(5, created_at=NOON - timedelta(days=1)), "log-time"),
    (event(17, created_at=NOON), "log-time"),
    (behind("run_created"), "log-repeated"),
    (behind("run_started"), "log-repeated"),
    (behind("step_created", "s"), "log-repeated"),
    (behind("step_completed", "s"), "log-repeated"),
    (behind("step_failed", "s"), "log-repeated"),
    (behind("hook_created", "h"), "log-repeated"),
    (behind("hook_disposed", "i"), "log-repeated"),
    (behind("hook_received", "h", resume_id="r"), "log-repeated"),
    (behind("wait_created", "w"), "log-repeated"),
    (behind("wait_completed", "w"), "log-repeated"),
    (behind("attr_set", "a"), "log-repeated"),
    (behind("step_started", "new"), "log-order"),
    (behind("step_completed", "new"), "log-order"),
    (behind("step_started", "s"), "log-order"),
    (behind("step_retrying", "s"), "log-order"),
    (behind("hook_received", "new"), "log-order"),
    (behind("hook_received", "i"), "log-order"),
    (behind("hook_disposed", "new"), "log-order"),
    (behind("hook_conflict", "h"), "log-order"),
    (behind("wait_completed", "new"), "log-order"),
    (run(status="pending"), "run-differs"),
    (run(error_code="X"), "run-differs"),
    (run(input=None), "run-differs"),
    (run(attributes={}), "run-differs"),
    (run(updated_at=LATER), "run-differs"),
    (run(deployment_id="other"), "run-differs"),
    (table("steps", "s", status="failed"), "step-differs"),
    (table("steps", "s", output=b""), "step-differs"),
    (table("steps", "t", attempt=7), "step-differs"),
    (table("steps", "t", retry_after=LATER), "step-differs"),
    (dropped("steps", "s"), "step-missing"),
    (added("steps", "new", NEW_STEP), "step-unexpected"),
    (table("hooks", "h", token="other"), "hook-differs"),  # noqa: S106
    (table("hooks", "h", is_webhook=False), "hook-differs"),
    (dropped("hooks", "h"), "hook-missing"),
    (added("hooks", "new", NEW_HOOK), "hook-unexpected"),
    (table("waits", "x", status="completed"), "wait-differs"),
    (dropped("waits", "x"), "wait-differs"),
    (event(16, due_at=None), "wait-due"),
    (event(16, due_at=LATER), "wait-due"),
    (event(14, due_at=LATER), "wait-due"),
    (unreadable("run-unreadable", RUN), "run-unreadable"),
    (unreadable("log-unreadable", "3"), "log-unreadable"),
    (unreadable("step-unreadable", "s"), "step-unreadable"),
]


@pytest.mark.parametrize(("damage", "kind"), DAMAGES)
def test_each_damage_has_exactly_its_finding(damage: Damage, kind: str) -> None:
    rows = damage(rows_of(life()))
    assert kinds(rows) == [kind]
    (one,) = run_findings(rows)
    assert one.run_id == RUN
    assert one.detail
    assert kind in KINDS


AFTER_THE_END: list[tuple[Damage, str]] = [
    (behind("run_completed"), "log-repeated"),
    (behind("run_failed"), "log-repeated"),
    (behind("run_cancelled"), "log-repeated"),
    (behind("step_created", "new"), "log-after-end"),
    (behind("step_started", "t"), "log-after-end"),
    (behind("wait_created", "new"), "log-after-end"),
    (behind("hook_created", "new"), "log-after-end"),
    (behind("hook_conflict", "new"), "log-after-end"),
    (behind("hook_received", "h"), "log-after-end"),
    (behind("attr_set", "new"), "log-after-end"),
    (run(completed_at=LATER), "run-differs"),
    (added("hooks", "new", NEW_HOOK), "hook-of-ended-run"),
    (event(16, due_at=LATER), "wait-due"),
]


@pytest.mark.parametrize(("damage", "kind"), AFTER_THE_END)
def test_each_damage_to_an_ended_run_has_exactly_its_finding(damage: Damage, kind: str) -> None:
    assert kinds(damage(rows_of(life(*ENDED)))) == [kind]


def test_a_cancelled_run_may_be_cancelled_again() -> None:
    rows = rows_of(life(("run_cancelled", None)))
    assert kinds(behind("run_cancelled")(rows)) == []
    assert kinds(behind("run_failed")(rows)) == ["log-repeated"]


def test_slots() -> None:
    """From spec version 6 on an id says its position."""
    rows = rows_of(life(spec_version=6))
    assert kinds(event(5, event_id="evnt_" + "6".zfill(26))(rows)) == ["log-id"]


def test_legacy_runs_change_without_events() -> None:
    ledger = Ledger()
    ledger.send("run_created", spec_version=1)
    ledger.send("run_cancelled")
    rows = rows_of(ledger)
    assert len(rows.log) == 1
    assert kinds(rows) == []
    damaged = run(deployment_id="other")(rows)
    assert kinds(damaged) == ["run-differs"]
    assert run_findings(damaged)[0].fields == ()
    assert kinds(behind("step_created", "s", spec_version=5)(rows)) == ["log-order"]


def test_a_newer_run_is_not_judged() -> None:
    newer = event(1, spec_version=8)(without(5)(rows_of(life())))
    assert newer.is_newer
    assert kinds(newer) == []


def test_an_expiry_is_no_difference() -> None:
    assert kinds(run(expired_at=LATER)(rows_of(life()))) == []


def test_hooks_may_have_any_owner() -> None:
    assert kinds(table("hooks", "h", owner_id="somebody")(rows_of(life()))) == []
    assert with_owner(NEW_HOOK, OWNER).owner_id == OWNER.owner_id


# --- random damages to random histories --------------------------------------------------------


def _sound(rows: RunRows) -> bool:
    return rows.run is not None and not rows.is_legacy and len(rows.log) > 3


@settings(deadline=None, max_examples=150)
@given(st.lists(proposals(), min_size=8, max_size=40), st.data())
def test_random_damage_to_random_histories(
    history: list[dict[str, Any]], data: st.DataObject
) -> None:
    ledger = Ledger()
    ledger.start()
    for proposal in history:
        accepted(ledger, proposal | {"run_id": RUN})
    rows = rows_of(ledger)
    assume(_sound(rows))
    place = data.draw(st.integers(1, len(rows.log) - 1), label="position")
    choices: list[tuple[Damage, str]] = [
        (without(place), "log-gap"),
        (event(place, event_id="x"), "log-id"),
        (event(place + 1, created_at=NOON - timedelta(days=9)), "log-time"),
        (run(error_code="damage"), "run-differs"),
        (added("steps", "new", NEW_STEP), "step-unexpected"),
    ]
    for step_id, step in rows.steps.items():
        choices.append((dropped("steps", step_id), "step-missing"))
        choices.append((table("steps", step_id, attempt=step.attempt + 1), "step-differs"))
    for hook_id in rows.hooks:
        choices.append((dropped("hooks", hook_id), "hook-missing"))
        choices.append((table("hooks", hook_id, metadata=b"damage"), "hook-differs"))
    damage, kind = data.draw(st.sampled_from(choices), label="damage")
    assert kinds(damage(rows)) == [kind]


# --- comparing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, b"", "", 0, 1.5, math.nan, [math.nan], {"a": [1, {"b": math.nan}]}, (1, 2)]
)
def test_a_value_is_the_same_as_itself(value: object) -> None:
    assert same(value, value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (b"a", "a"),
        (None, b""),
        ([1], [1, 2]),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ([math.nan], [1.0]),
    ],
)
def test_values_that_differ(one: object, other: object) -> None:
    assert not same(one, other)


def test_a_deep_value_needs_no_deep_stack() -> None:
    one: object = math.nan
    other: object = math.nan
    for _ in range(5_000):
        one, other = [one], [other]
    assert same(one, other)


def test_differences_are_field_names() -> None:
    changed = replace(NEW_STEP, attempt=3, output=b"")
    assert differences(NEW_STEP, changed) == ("output", "attempt")
    assert differences(NEW_STEP, changed, but=("attempt",)) == ("output",)
    assert isinstance(rows_of(life()).log[0], Event)
