"""The state machine under random histories: what holds after any sequence of events."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger import CREATION, DATA, RUN, Ledger

from workflow_world.core.entities import Event, Run, Step
from workflow_world.core.events import EVENT_TYPES, SINGLE_EVENTS, STEP_OUTCOMES
from workflow_world.errors import EntityConflictError, NotFoundError, WorldError

RUNS = (RUN, "wrun_2")
NAMES = ("a", "b", "c")
KINDS = sorted(name for name, kind in EVENT_TYPES.items() if kind.creatable)
SELDOM = ("run_completed", "run_failed", "run_cancelled")
START = [(RUN, "run_created"), ("wrun_2", "run_created"), (RUN, "run_started")]


@st.composite
def proposals(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(KINDS + [k for k in KINDS if k not in SELDOM] * 5))
    data = dict(DATA.get(kind, {}))
    correlation_id = None if kind.startswith("run_") else draw(st.sampled_from(NAMES))
    rest: dict[str, Any] = {}
    if kind == "attr_set":
        keys = draw(st.lists(st.sampled_from("klm"), min_size=1, unique=True))
        value = st.none() | st.sampled_from(["1", "2"])
        data["changes"] = [{"key": key, "value": draw(value)} for key in keys]
        if draw(st.booleans()):
            correlation_id, data["writer"] = None, {"type": "step", "stepId": "a", "attempt": 1}
    elif kind == "hook_created":
        data["token"] = draw(st.sampled_from(["t", "u"]))
    elif kind == "hook_received":
        rest["resume_id"] = draw(st.sampled_from([None, "r1", "r2"]))
        rest["payload_digest"] = draw(st.sampled_from([None, "d1", "d2"]))
    elif kind == "run_started":
        data = draw(st.sampled_from([{}, CREATION]))
    elif kind == "step_retrying" and draw(st.booleans()):
        data["retryAfter"] = "2030-01-02T03:04:10Z"
    return {
        "event_type": kind,
        "correlation_id": correlation_id,
        "data": data,
        "run_id": draw(st.sampled_from(RUNS)),
        "spec_version": draw(st.sampled_from([5, 5, 5, 6, 2, 1])),
        **rest,
        "seconds": draw(st.sampled_from([0, 0, 1, 7, -3])),
    }


def accepted(ledger: Ledger, proposal: dict[str, Any]) -> bool:
    proposal = dict(proposal)
    ledger.now += timedelta(seconds=proposal.pop("seconds"))
    try:
        ledger.send(**proposal)
    except WorldError:
        return False
    return True


@settings(deadline=None, max_examples=300)
@given(st.lists(proposals(), min_size=5, max_size=60))
def test_any_history(history: list[dict[str, Any]]) -> None:
    """After each event: rows equal the fold (checked by the ledger), and what follows here."""
    ledger = Ledger()
    for run_id, kind in START:
        ledger.send(kind, run_id=run_id, data=dict(DATA.get(kind, {})))
    finals: dict[object, Run | Step] = {}
    for proposal in history:
        logs = {run_id: ledger.log(run_id) for run_id in RUNS}
        accepted(ledger, proposal)
        for run_id, before in logs.items():
            grown = ledger.log(run_id)
            assert [bare(event) for event in grown[: len(before)]] == [bare(e) for e in before]
            assert len(grown) <= len(before) + 2
            if run_id != proposal["run_id"]:
                assert grown == before
        for key, row in [*ledger.database.runs.items(), *ledger.database.steps.items()]:
            assert finals.setdefault(key, row) == row if row.is_final else key not in finals
    tokens = Counter(hook.token for hook in ledger.database.hooks.values())
    assert set(tokens.values()) <= {1}
    for run_id in RUNS:
        check_log(ledger, run_id)


def bare(event: Event) -> tuple[object, ...]:
    """What never changes in a row; only ``due_at`` may."""
    return (event.position, event.event_id, event.event_type, event.created_at, event.resume_id)


def check_log(ledger: Ledger, run_id: str) -> None:
    log, run = ledger.log(run_id), ledger.run(run_id)
    assert run is not None
    is_legacy = (run.spec_version or 1) <= 1
    once = Counter(
        (event.event_type, event.correlation_id)
        for event in log
        if event.event_type in SINGLE_EVENTS and event.correlation_id is not None
    )
    assert set(once.values()) <= {1}
    outcomes = Counter(e.correlation_id for e in log if e.event_type in STEP_OUTCOMES)
    assert set(outcomes.values()) <= {1}
    resumes = Counter(event.resume_id for event in log if event.resume_id is not None)
    assert set(resumes.values()) <= {1}
    disposed: set[str | None] = set()
    for event in log:
        if event.event_type == "hook_disposed":
            disposed.add(event.correlation_id)
        if event.event_type == "hook_received" and not is_legacy:
            assert event.correlation_id not in disposed
    if run.is_final:
        assert not [hook for hook in ledger.database.hooks.values() if hook.run_id == run_id]
        assert not [event for event in log if event.due_at is not None]
    assert (run.completed_at is not None) == run.is_final
    for step in ledger.database.steps.values():
        assert (step.completed_at is not None) == step.is_final


REPEATS = {
    "step_started": "attempt grows, one more row",
    "step_retrying": "one more row",
    "hook_received": "without a resume id there is nothing to know it by",
    "run_started": "no row",
    "run_cancelled": "one more row, the run unchanged",
}
"""Events that succeed when they are sent again, and what they do (spec 2.4 to 2.9)."""


@pytest.mark.parametrize("event_type", KINDS)
def test_sending_an_event_twice(event_type: str) -> None:
    """The second one is refused as a conflict or not found, or does what the table says."""
    ledger = Ledger()
    if event_type != "run_created":
        ledger.start()
    correlation_id = None if event_type.startswith("run_") else "x"
    if event_type.startswith("step_") and event_type != "step_created":
        ledger.send("step_created", "x")
    if event_type in ("hook_received", "hook_disposed"):
        ledger.send("hook_created", "x")
    if event_type == "wait_completed":
        ledger.send("wait_created", "x")
    ledger.send(event_type, correlation_id)
    log, run, step = ledger.log(), ledger.run(), ledger.step("x")
    ledger.now += timedelta(seconds=1)
    if event_type not in REPEATS:
        with pytest.raises((EntityConflictError, NotFoundError)):
            ledger.send(event_type, correlation_id)
        assert ledger.log() == log
        return
    ledger.send(event_type, correlation_id)
    assert len(ledger.log()) == len(log) + (
        "one more" in REPEATS[event_type] or correlation_id == "x"
    )
    assert ledger.run() == run
    after = ledger.step("x")
    if step is not None and after is not None:
        assert after.started_at == step.started_at
        assert after.attempt == step.attempt + (event_type == "step_started")


def test_a_resume_happens_once() -> None:
    """B075 to B082: by resume id, also after the hook and the run are gone."""
    ledger = Ledger()
    ledger.start()
    ledger.send("hook_created", "h", {"token": "t"})
    ledger.send("hook_created", "other", {"token": "u"})
    with pytest.raises(NotFoundError):
        ledger.send("hook_received", "unknown", resume_id="r", payload_digest="d")
    first = ledger.send("hook_received", "h", resume_id="r", payload_digest="d").event
    assert first is not None
    assert first.resume_id == "r"

    def again() -> None:
        for digest in ("d", None):
            repeated = ledger.send("hook_received", "h", resume_id="r", payload_digest=digest)
            assert repeated.event == first
        for hook_id, digest in (("other", "d"), ("h", "e")):
            with pytest.raises(EntityConflictError, match="Resume id"):
                ledger.send("hook_received", hook_id, resume_id="r", payload_digest=digest)

    again()
    assert ledger.send("hook_received", "h", resume_id="r2").event != first
    ledger.send("hook_disposed", "h")
    again()
    ledger.send("run_completed")
    again()
    with pytest.raises(NotFoundError):
        ledger.send("hook_received", "h", resume_id="r3")


def test_a_resume_id_belongs_to_received_payloads_alone() -> None:
    """Spec 1.6: on any other event it is ignored, so it can claim nothing."""
    ledger = Ledger()
    ledger.start()
    ledger.send("hook_created", "h", resume_id="r", payload_digest="d")
    ledger.send("hook_received", "h", resume_id="r", payload_digest="d")
    ledger.send("hook_disposed", "h", resume_id="r", payload_digest="d")
    assert [event.resume_id for event in ledger.log()] == [None, None, None, "r", None]
    assert ledger.types()[-1] == "hook_disposed"


@pytest.mark.parametrize("spec_version", [2, 5, 6, 7])
def test_ids_and_times_under_a_clock_that_goes_back(spec_version: int) -> None:
    """B094, B095: ids rise, times never fall, whatever the clock says (see the ledger)."""
    ledger = Ledger()
    ledger.start(spec_version=spec_version)
    for seconds in (-3600, 0, 0.001, 7200, -1):
        ledger.now += timedelta(seconds=seconds)
        ledger.send("step_created", f"s{seconds}{len(ledger.log())}")
    last = ledger.log()[-1]
    slot = "evnt_" + str(last.position).zfill(26)
    assert (last.event_id == slot) == (spec_version >= 6)
