"""What the queue reads out of a payload (spec 4.2), and which messages are mere wake-ups."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_world.core.messages import Subject, is_wake_up, subject_of


@pytest.mark.parametrize(
    ("payload", "subject"),
    [
        ({"runId": "r"}, Subject(run_id="r", is_bare=True)),
        ({"runId": "r", "requestedAt": 1, "traceCarrier": {}}, Subject(run_id="r", is_bare=True)),
        ({"runId": "r", "runInput": None}, Subject(run_id="r", is_bare=True)),
        ({"runId": "r", "runInput": {"input": b""}}, Subject(run_id="r")),
        ({"runId": "r", "hookInput": {}}, Subject(run_id="r")),
        ({"runId": "r", "unknown": 0}, Subject(run_id="r")),
        ({"runId": "r", "stepId": "s", "stepName": "n"}, Subject(run_id="r", step_id="s")),
        (
            {"workflowName": "w", "workflowRunId": "r", "workflowStartedAt": 1, "stepId": "s"},
            Subject(run_id="r", step_id="s"),
        ),
        ({"workflowRunId": "r"}, Subject(run_id="r")),
        ({"__healthCheck": True, "correlationId": "c", "runId": "r", "stepId": "s"}, Subject()),
        ({"__healthCheck": False, "runId": "r"}, Subject(run_id="r")),
        ({"stepId": "s"}, Subject()),
        ({"runId": 5}, Subject()),
        ({"runId": ""}, Subject()),
        ({"runId": "r", "stepId": 5}, Subject(run_id="r")),
        ({}, Subject()),
        (None, Subject()),
        ("runId", Subject()),
        ([{"runId": "r"}], Subject()),
        (b"runId", Subject()),
    ],
)
def test_the_four_kinds_of_payload(payload: object, subject: Subject) -> None:
    assert subject_of(payload) == subject


@given(
    st.dictionaries(
        st.sampled_from(["runId", "stepId", "workflowRunId", "__healthCheck", "other"]) | st.none(),
        st.none() | st.booleans() | st.text(max_size=3) | st.binary() | st.integers(),
    )
)
def test_any_map_has_a_subject(payload: dict[Any, Any]) -> None:
    found = subject_of(payload)
    assert found.run_id is None or found.run_id in payload.values()
    assert not found.is_bare or (found.run_id is not None and found.step_id is None)


@pytest.mark.parametrize(
    ("delay", "key", "expected"),
    [(0, None, True), (-1, None, True), (0.001, None, False), (0, "key", False), (5, "key", False)],
)
def test_wake_ups(delay: float, key: str | None, expected: bool) -> None:
    """Design 7: no step, no input, no delay, no key, no headers."""
    bare, full = Subject(run_id="r", is_bare=True), Subject(run_id="r")
    assert is_wake_up(bare, delay_seconds=delay, idempotency_key=key) is expected
    assert not is_wake_up(full, delay_seconds=delay, idempotency_key=key)
    for headers in (None, {}, {"x-trace": "1"}):
        found = is_wake_up(bare, delay_seconds=delay, idempotency_key=key, headers=headers)
        assert found is (expected and not headers)
