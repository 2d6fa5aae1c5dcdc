"""The state machine against the tables of spec 2.4 to 2.10, every combination of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
from ledger import CREATION, RUN, Ledger

from workflow_world.core.decide import RULES
from workflow_world.core.entities import FINAL_STATUSES
from workflow_world.core.events import EVENT_TYPES
from workflow_world.errors import (
    EntityConflictError,
    HookNotFoundError,
    InvalidRequestError,
    RunExpiredError,
    RunNotFoundError,
    RunNotSupportedError,
    StepNotFoundError,
    TooEarlyError,
    WaitNotFoundError,
    WorldError,
)

CREATABLE = sorted(name for name, kind in EVENT_TYPES.items() if kind.creatable)
RUN_STATUSES = ("missing", "pending", "running", "completed", "failed", "cancelled")
STEP_STATUSES = ("missing", "pending", "running", "completed", "failed", "cancelled")
LIVE = ("pending", "running")
ENDS = {"completed": "run_completed", "failed": "run_failed", "cancelled": "run_cancelled"}
STEP_CHANGES = ("step_started", "step_retrying", "step_completed", "step_failed")

Error = type[WorldError] | None


def ledger_with(run: str, step: str = "missing", **entities: bool) -> Ledger:
    """A run in this status with a step ``s`` in that one, and hook ``h`` and wait ``w`` on wish."""
    ledger = Ledger()
    if run == "missing":
        return ledger
    ledger.send("run_created")
    if run != "pending":
        ledger.send("run_started")
    if step != "missing":
        ledger.send("step_created", "s")
    if step in ("running", "completed", "failed"):
        ledger.send("step_started", "s")
    if step in ("completed", "failed"):
        ledger.send(f"step_{step}", "s")
    if entities.get("hook"):
        ledger.send("hook_created", "h")
    if entities.get("wait"):
        ledger.send("wait_created", "w")
    if run in FINAL_STATUSES:
        ledger.send(ENDS[run])
    if step == "cancelled":
        found = ledger.step("s")
        assert found is not None
        ledger.plant(found, status="cancelled", completed_at=ledger.now)
    return ledger


def outcome(ledger: Ledger, event_type: str, correlation_id: str | None, **rest: object) -> Error:
    try:
        ledger.send(event_type, correlation_id, **rest)  # type: ignore[arg-type]
    except WorldError as error:
        return type(error)
    return None


def test_every_creatable_event_type_has_a_rule() -> None:
    assert sorted(RULES) == CREATABLE


def run_event(event_type: str, run: str) -> Error:
    """Spec 2.4, 2.5."""
    if run == "missing":
        return None if event_type == "run_created" else RunNotFoundError
    if event_type == "run_created":
        return EntityConflictError
    if run in LIVE or (event_type == "run_cancelled" and run == "cancelled"):
        return None
    return EntityConflictError


def step_event(event_type: str, run: str, step: str) -> Error:
    """Spec 2.4, 2.6."""
    if run == "missing":
        return RunNotFoundError
    if event_type == "step_created":
        return None if run in LIVE and step == "missing" else EntityConflictError
    if run not in LIVE:
        return None if step == "running" else EntityConflictError
    if step == "missing":
        return StepNotFoundError
    return None if step in LIVE else EntityConflictError


@pytest.mark.parametrize(
    ("event_type", "run"),
    list(product([name for name in CREATABLE if name.startswith("run_")], RUN_STATUSES)),
)
def test_run_events(event_type: str, run: str) -> None:
    ledger = ledger_with(run)
    before = ledger.log()
    assert outcome(ledger, event_type, None) is run_event(event_type, run)
    writes = run_event(event_type, run) is None
    if event_type == "run_started" and run == "running":
        writes = False
    assert len(ledger.log()) == len(before) + writes


@pytest.mark.parametrize(
    ("event_type", "run", "step"),
    [
        case
        for case in product(["step_created", *STEP_CHANGES], RUN_STATUSES, STEP_STATUSES)
        if case[1] != "missing" or case[2] == "missing"
    ],
)
def test_step_events(event_type: str, run: str, step: str) -> None:
    ledger = ledger_with(run, step)
    assert outcome(ledger, event_type, "s") is step_event(event_type, run, step)


@pytest.mark.parametrize("run", RUN_STATUSES)
def test_hook_wait_and_attribute_events_by_run_status(run: str) -> None:
    """Spec 2.4: the rows of hooks, waits and attributes, on entities that never were."""
    expected: dict[str, Error] = {
        "hook_created": None if run in LIVE else RunExpiredError,
        "attr_set": None if run in LIVE else RunExpiredError,
        "wait_created": None if run in LIVE else EntityConflictError,
        "hook_received": HookNotFoundError,
        "hook_disposed": HookNotFoundError,
        "wait_completed": WaitNotFoundError if run in LIVE else EntityConflictError,
    }
    for event_type, error in expected.items():
        if run == "missing":
            error = RunNotFoundError
        assert outcome(ledger_with(run), event_type, "x") is error, event_type


@pytest.mark.parametrize("run", RUN_STATUSES[1:])
def test_hook_wait_events_on_entities_that_were_there(run: str) -> None:
    live = run in LIVE
    expected: dict[tuple[str, str], Error] = {
        ("hook_received", "h"): None if live else HookNotFoundError,
        ("hook_disposed", "h"): None if live else HookNotFoundError,
        ("hook_created", "h"): EntityConflictError if live else RunExpiredError,
        ("wait_completed", "w"): None if live else EntityConflictError,
        ("wait_created", "w"): EntityConflictError,
    }
    for (event_type, correlation_id), error in expected.items():
        ledger = ledger_with(run, hook=True, wait=True)
        assert outcome(ledger, event_type, correlation_id) is error, event_type


@pytest.mark.parametrize("event_type", [name for name in CREATABLE if name != "run_created"])
def test_every_event_on_a_missing_run_leaves_the_log_empty(event_type: str) -> None:
    """B035."""
    ledger = Ledger()
    with pytest.raises(RunNotFoundError):
        ledger.send(event_type, "x" if not event_type.startswith("run_") else None)
    assert ledger.log() == []


@pytest.mark.parametrize("event_type", CREATABLE)
def test_an_expired_run_takes_no_event(event_type: str) -> None:
    """B036, spec 2.3 step 4: 410, but 409 for step events; a new run is a conflict as ever."""
    ledger = ledger_with("running", "running", hook=True, wait=True)
    run = ledger.run()
    assert run is not None
    ledger.plant(run, expired_at=ledger.now)
    conflict = event_type.startswith("step_") or event_type == "run_created"
    expected = EntityConflictError if conflict else RunExpiredError
    correlation_id = None if event_type.startswith("run_") else "s"
    with pytest.raises(expected):
        ledger.send(event_type, correlation_id)
    ledger.plant(run, expired_at=ledger.now + timedelta(milliseconds=1))
    ledger.send("step_started", "s")


@pytest.mark.parametrize("event_type", [name for name in CREATABLE if name != "run_created"])
def test_a_run_of_a_newer_spec_version_takes_no_event(event_type: str) -> None:
    """B091."""
    ledger = ledger_with("running")
    run = ledger.run()
    assert run is not None
    ledger.plant(run, spec_version=8)
    with pytest.raises(RunNotSupportedError) as caught:
        ledger.send(event_type, None if event_type.startswith("run_") else "s")
    assert (caught.value.run_spec_version, caught.value.supported) == (8, 7)


@pytest.mark.parametrize("event_type", CREATABLE)
@pytest.mark.parametrize("status", ["pending", "completed", "failed", "cancelled"])
def test_legacy_runs(event_type: str, status: str) -> None:
    """Spec 2.10, B090."""
    ledger = Ledger()
    ledger.send("run_created", spec_version=1)
    run = ledger.run()
    assert run is not None
    if status != "pending":
        run = replace(run, status=status, completed_at=ledger.now)  # type: ignore[arg-type]
        ledger.plant(run)
    correlation_id = None if event_type.startswith("run_") else "x"
    if event_type in ("wait_completed", "hook_received"):
        result = ledger.send(event_type, correlation_id)
        assert result.event is not None
        assert result.event.spec_version == 5
        assert ledger.run() == run
    elif event_type == "run_cancelled" and status in ("pending", "cancelled"):
        result = ledger.send(event_type)
        assert result.event is None
        assert result.run is not None
        assert result.run.status == "cancelled"
        assert ledger.types() == ["run_created"]
    else:
        with pytest.raises(EntityConflictError) as caught:
            ledger.send(event_type, correlation_id)
        if event_type not in ("run_created", "run_cancelled"):
            assert "not supported for legacy runs" in str(caught.value)


@pytest.mark.parametrize("event_type", ["unknown", "hook_conflict", "noop"])
def test_events_that_only_the_world_writes(event_type: str) -> None:
    """B038."""
    with pytest.raises(InvalidRequestError):
        ledger_with("running").send(event_type, "x", {})


@pytest.mark.parametrize("missing", sorted(CREATION))
def test_resilient_start_needs_all_three(missing: str) -> None:
    """B023: absent, or empty for the two names."""
    for data in (
        {key: value for key, value in CREATION.items() if key != missing},
        {**CREATION, missing: "" if missing != "input" else None},
    ):
        ledger = Ledger()
        with pytest.raises(RunNotFoundError):
            ledger.send("run_started", data=data)
        assert ledger.log() == []


def test_resilient_start() -> None:
    """B022, B024, B026, B027."""
    ledger = Ledger()
    data = {
        **CREATION,
        "input": b"",
        "executionContext": {"a": None},
        "attributes": {"k": "v"},
        "encryptionPublicKey": "key",
    }
    result = ledger.send("run_started", data=data, spec_version=6)
    run = ledger.run()
    assert run is not None
    assert ledger.types() == ["run_created", "run_started"]
    assert ledger.log()[0].event_data == data
    assert ledger.log()[1].event_data is None
    assert ledger.log()[1].event_id == "evnt_" + "2".zfill(26)
    assert result.event == ledger.log()[1]
    assert (run.status, run.spec_version, run.input, run.encryption_public_key) == (
        "running",
        6,
        b"",
        "key",
    )
    assert (run.execution_context, run.attributes) == ({"a": None}, {"k": "v"})
    other = {**CREATION, "workflowName": "other", "attributes": {"k": "changed"}}
    assert ledger.send("run_started", data=other).event is None
    assert ledger.run() == run
    ledger.send("run_failed")
    with pytest.raises(EntityConflictError, match="terminal"):
        ledger.send("run_started", data=data)


def test_a_step_may_not_start_before_retry_after() -> None:
    """B051, B052, B053: whole seconds, rounded up, at least one; a final step always conflicts."""
    ledger = ledger_with("running", "running")
    start = ledger.now
    ledger.send(
        "step_retrying",
        "s",
        {"error": b"e", "retryAfter": start + timedelta(seconds=2, milliseconds=1)},
    )
    for milliseconds, seconds in ((0, 3), (1, 2), (1001, 1), (2000, 1)):
        ledger.now = start + timedelta(milliseconds=milliseconds)
        before = ledger.rows()
        with pytest.raises(TooEarlyError, match="retryAfter") as caught:
            ledger.send("step_started", "s")
        assert caught.value.retry_after == seconds
        assert ledger.rows() == before
    ledger.now = start + timedelta(milliseconds=2001)
    step = ledger.send("step_started", "s").step
    assert step is not None
    assert (step.retry_after, step.error, step.attempt) == (None, b"e", 2)
    later = {"error": b"e", "retryAfter": ledger.now + timedelta(days=1)}
    ledger.send("step_retrying", "s", later)
    ledger.send("step_completed", "s")
    with pytest.raises(EntityConflictError, match="terminal state"):
        ledger.send("step_started", "s")


def test_hook_lifecycle() -> None:
    """Spec 2.7: each row of the table."""
    ledger = Ledger()
    ledger.start()
    ledger.start("wrun_2")
    created = ledger.send("hook_created", "h", {"token": "t", "isWebhook": False})
    assert created.hook is not None
    assert (created.hook.is_webhook, created.hook.is_system, created.hook.owner_id) == (
        False,
        None,
        "me",
    )
    for run_id, hook_id in (("wrun_2", "h"), (RUN, "other")):
        lost = ledger.send("hook_created", hook_id, {"token": "t"}, run_id=run_id)
        assert lost.hook is None
        assert lost.event is not None
        assert lost.event.event_type == "hook_conflict"
        assert lost.event.event_data == {"token": "t", "conflictingRunId": RUN}
        again = ledger.send("hook_created", hook_id, {"token": "t"}, run_id=run_id)
        assert again.event == lost.event
    ledger.send("hook_disposed", "h")
    for run_id in (RUN, "wrun_2"):
        with pytest.raises(HookNotFoundError) as caught:
            ledger.send("hook_received", "h", run_id=run_id)
        assert caught.value.hook_id == "h"
    with pytest.raises(EntityConflictError, match="disposed"):
        ledger.send("hook_created", "h", {"token": "t"})
    assert ledger.send("hook_created", "fresh", {"token": "t"}, run_id="wrun_2").hook is not None
    with pytest.raises(HookNotFoundError):
        ledger.send("hook_received", "fresh")
    ledger.send("run_completed", run_id="wrun_2")
    assert ledger.send("hook_created", "last", {"token": "t"}).hook is not None


def test_a_hook_row_without_its_event_is_finished() -> None:
    ledger = ledger_with("running", hook=True)
    hook = ledger.hook("h")
    log = ledger.database.log[RUN]
    del log[len(log)]
    result = ledger.send("hook_created", "h")
    assert result.hook == hook
    assert ledger.types()[-1] == "hook_created"


def test_attr_set_merges_and_claims_its_id_last() -> None:
    """B086, B087, B088 (end)."""
    ledger = Ledger()
    ledger.start()
    writer = {"type": "workflow"}

    def write(correlation_id: str | None, changes: list[dict[str, object]], **more: object) -> None:
        data = {"changes": changes, "writer": writer, **more}
        ledger.send("attr_set", correlation_id, data)

    with pytest.raises(InvalidRequestError):
        write("a", [{"key": "", "value": "v"}])
    write("a", [{"key": "x", "value": "1"}, {"key": "y", "value": "2"}])
    with pytest.raises(EntityConflictError):
        write("a", [{"key": "x", "value": "changed"}])
    write("b", [{"key": "x", "value": None}, {"key": "gone", "value": None}])
    data = ledger.log()[-1].event_data
    assert data is not None
    assert data["changes"] == [{"key": "x", "value": None}, {"key": "gone", "value": None}]
    write("c", [{"key": "$r", "value": "3"}], allowReservedAttributes=True)
    run = ledger.run()
    assert run is not None
    assert run.attributes == {"y": "2", "$r": "3"}
    writer = {"type": "step", "stepId": "s", "attempt": 1}
    write(None, [{"key": "y", "value": "4"}])
    write(None, [{"key": "y", "value": "4"}])
    for correlation_id in ("d", None):
        other = {"type": "workflow"} if correlation_id is None else writer
        with pytest.raises(InvalidRequestError, match="correlationId"):
            ledger.send("attr_set", correlation_id, {"changes": [], "writer": other})
