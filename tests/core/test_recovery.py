"""The sweep's findings, row by row of spec 4.10."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from workflow_world.core.entities import Run, RunStatus
from workflow_world.core.events import CURRENT_SPEC_VERSION
from workflow_world.core.recovery import RunFacts, StrandedStep, WakeUp, wake_ups
from workflow_world.testing.clock import START as NOW

GRACE = timedelta(seconds=30)
OLD = NOW - GRACE
FRESH = OLD + timedelta(milliseconds=1)
STEP = StrandedStep(step_id="s", step_name="work", retry_after=None, updated_at=OLD)


def run_of(status: RunStatus = "running", **changes: object) -> Run:
    run = Run(
        run_id="r",
        status=status,
        deployment_id="d",
        workflow_name="greet",
        spec_version=CURRENT_SPEC_VERSION,
        created_at=OLD,
        updated_at=OLD,
    )
    return replace(run, **changes)  # type: ignore[arg-type]


def found(facts: RunFacts, *, at_start: bool = False, namespace: str | None = None) -> list[WakeUp]:
    return wake_ups(facts, now=NOW, grace=GRACE, at_start=at_start, namespace=namespace)


def is_woken(facts: RunFacts, *, at_start: bool = False) -> bool:
    """Whether the run itself is woken, with exactly one bare message."""
    wakes = found(facts, at_start=at_start)
    for wake in wakes:
        assert (wake.step_id, wake.payload) == (None, {"runId": "r"})
        assert (wake.queue_name, wake.available_at) == ("__wkf_workflow_greet", None)
    assert len(wakes) <= 1
    return bool(wakes)


def test_a_pending_run_without_a_message() -> None:
    """B160."""
    facts = RunFacts(run=run_of("pending"))
    assert is_woken(facts)
    assert not is_woken(replace(facts, has_message=True))
    assert not is_woken(replace(facts, run=run_of("pending", updated_at=FRESH)))


@pytest.mark.parametrize("version", [None, 1])
def test_a_legacy_run_is_left_alone(version: int | None) -> None:
    """Spec 2.10: a delivery could do nothing for it, so it would be woken for ever."""
    pending = run_of("pending", spec_version=version)
    assert not is_woken(RunFacts(run=pending), at_start=True)
    running = RunFacts(run=run_of(spec_version=version), stranded=[STEP], next_due_at=OLD)
    assert found(running, at_start=True) == []
    assert is_woken(RunFacts(run=run_of("pending", spec_version=2)))


def test_a_step_without_a_message() -> None:
    """B161: also when the run itself has one; due at retryAfter."""
    later = NOW + timedelta(hours=1)
    facts = RunFacts(run=run_of(), stranded=[STEP, replace(STEP, step_id="t", retry_after=later)])
    for has_message in (False, True):
        first, second = found(replace(facts, has_message=has_message))
        assert first.payload == {"runId": "r", "stepId": "s", "stepName": "work"}
        assert (first.queue_name, first.available_at) == ("__wkf_workflow_greet", None)
        assert (second.step_id, second.available_at) == ("t", later)
    fresh = replace(facts, stranded=[replace(STEP, updated_at=FRESH)], has_message=True)
    assert found(fresh) == []
    assert found(replace(facts, run=run_of("pending", updated_at=FRESH))) == []


def test_a_step_that_gets_its_message_wakes_the_run_later() -> None:
    facts = RunFacts(run=run_of(), stranded=[STEP], next_due_at=OLD, last_waking_at=OLD)
    assert [wake.step_id for wake in found(facts, at_start=True)] == ["s"]


def test_an_elapsed_wait_without_a_message() -> None:
    """B162."""
    facts = RunFacts(run=run_of(), next_due_at=OLD)
    assert is_woken(facts)
    assert not is_woken(replace(facts, has_message=True))
    for not_yet in (FRESH, NOW, NOW + timedelta(days=1)):
        assert not is_woken(replace(facts, next_due_at=not_yet))


def test_an_outcome_that_no_delivery_has_seen() -> None:
    """B163: the claim must be later than the event for the event to be seen."""
    facts = RunFacts(run=run_of(), last_waking_at=OLD)
    assert is_woken(facts)
    assert is_woken(replace(facts, last_claim_at=OLD))
    assert is_woken(replace(facts, last_claim_at=OLD - timedelta(seconds=1)))
    assert not is_woken(replace(facts, last_claim_at=OLD + timedelta(milliseconds=1)))
    assert not is_woken(replace(facts, last_waking_at=FRESH))


def test_an_outcome_that_no_message_will_show_soon() -> None:
    """B163: a timer, or a step's message, does not do."""
    facts = RunFacts(run=run_of(), has_message=True, has_hook=True, last_waking_at=OLD)
    assert is_woken(facts)
    assert not is_woken(replace(facts, has_hook=False))
    assert [wake.beside_others for wake in found(facts)] == [True]
    assert [wake.beside_others for wake in found(replace(facts, has_message=False))] == [False]
    assert not is_woken(replace(facts, will_replay=True))
    assert not is_woken(replace(facts, last_claim_at=OLD + timedelta(milliseconds=1)))
    assert not is_woken(replace(facts, last_waking_at=FRESH))
    assert not is_woken(replace(facts, last_waking_at=None), at_start=True)


@pytest.mark.parametrize("has_hook", [False, True])
def test_any_running_run_at_start(has_hook: bool) -> None:
    """The row for the start only; B164: not a run that only waits for hooks."""
    facts = RunFacts(run=run_of(), last_claim_at=NOW, has_hook=has_hook)
    assert not is_woken(facts)
    assert is_woken(facts, at_start=True) is not has_hook
    assert is_woken(replace(facts, has_open_step=True), at_start=True)
    assert is_woken(replace(facts, next_due_at=NOW + timedelta(days=1)), at_start=True)
    assert not is_woken(replace(facts, has_message=True), at_start=True)
    assert not is_woken(replace(facts, run=run_of(updated_at=FRESH)), at_start=True)


def test_a_run_that_waits_for_a_hook_still_sees_its_payload() -> None:
    facts = RunFacts(run=run_of(), has_hook=True, last_waking_at=OLD, last_claim_at=OLD)
    assert is_woken(facts)


@pytest.mark.parametrize(
    ("context", "configured", "queue_name"),
    [
        (None, None, "__wkf_workflow_greet"),
        (None, "other", "__other_wkf_workflow_greet"),
        ({"queueNamespace": "own"}, "other", "__own_wkf_workflow_greet"),
        ({"queueNamespace": ""}, "other", "__other_wkf_workflow_greet"),
        ({"queueNamespace": 5}, None, "__wkf_workflow_greet"),
        ({"other": 1}, None, "__wkf_workflow_greet"),
    ],
)
def test_the_namespace_of_the_run(
    context: dict[str, object] | None, configured: str | None, queue_name: str
) -> None:
    """B165."""
    for facts in (
        RunFacts(run=run_of("pending", execution_context=context)),
        RunFacts(run=run_of(execution_context=context), stranded=[STEP]),
    ):
        wakes = found(facts, namespace=configured)
        assert [wake.queue_name for wake in wakes] == [queue_name]
