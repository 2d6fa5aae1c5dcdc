"""The check of a proposed event before anything is read (spec 1.9, 2.3 step 1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger import CREATION, DATA

from workflow_world.core.events import EVENT_TYPES, NewEvent, as_time, checked
from workflow_world.core.ulid import encode_ulid
from workflow_world.core.values import from_ms
from workflow_world.errors import InvalidRequestError
from workflow_world.testing.clock import START

CREATABLE = sorted(name for name, kind in EVENT_TYPES.items() if kind.creatable)


def shape(event_type: str, data: dict[str, Any] | None = None, **rest: Any) -> NewEvent:
    kind = EVENT_TYPES[event_type]
    rest.setdefault("correlation_id", "c" if kind.correlated else None)
    return checked("wrun_1", NewEvent(event_type=event_type, event_data=data, **rest))


def data_of(event: NewEvent) -> dict[str, object]:
    return dict(event.event_data or {})


@pytest.mark.parametrize("event_type", CREATABLE)
def test_enough_data_passes_and_each_required_key_is_needed(event_type: str) -> None:
    data = DATA.get(event_type, {})
    shape(event_type, dict(data))
    for key in EVENT_TYPES[event_type].required:
        with pytest.raises(InvalidRequestError, match=key):
            shape(event_type, {name: value for name, value in data.items() if name != key})


@pytest.mark.parametrize("event_type", [name for name in CREATABLE if name != "run_created"])
def test_a_run_id_is_required(event_type: str) -> None:
    """B037."""
    with pytest.raises(InvalidRequestError, match="runId is required"):
        checked(None, NewEvent(event_type=event_type, event_data=DATA.get(event_type)))


@pytest.mark.parametrize(
    "event_type", [name for name, kind in EVENT_TYPES.items() if kind.correlated and kind.creatable]
)
def test_a_correlation_id_is_required(event_type: str) -> None:
    """B046."""
    with pytest.raises(InvalidRequestError, match="correlationId"):
        shape(event_type, dict(DATA.get(event_type, {})), correlation_id=None)


@pytest.mark.parametrize("event_type", CREATABLE)
def test_null_is_a_value_for_the_payload_and_absent_elsewhere(event_type: str) -> None:
    """Spec 1.9."""
    payload = EVENT_TYPES[event_type].payload
    if payload is not None and event_type != "run_started":
        event = shape(event_type, {**DATA.get(event_type, {}), payload: None})
        assert data_of(event)[payload] is None
    event = shape(event_type, {**DATA.get(event_type, {}), "unknownKey": None, "kept": 0})
    assert "unknownKey" not in data_of(event)
    assert data_of(event)["kept"] == 0


def test_falsy_payloads_are_values() -> None:
    for value in (b"", "", 0, False, [], {}):
        assert data_of(shape("run_completed", {"output": value})) == {"output": value}


def test_a_resilient_start_without_input_stays_without() -> None:
    assert shape("run_started", {"input": None}).event_data is None
    assert data_of(shape("run_started", dict(CREATION))) == CREATION
    assert data_of(shape("run_started", {"workflowName": ""})) == {"workflowName": ""}


def test_no_data_is_absent() -> None:
    assert shape("run_completed", {}).event_data is None
    assert shape("run_completed", None).event_data is None


def test_snake_case_keys_become_camel_case() -> None:
    """Spec 1.1; what is inside a value stays as it is."""
    event = shape(
        "run_created",
        {
            "deployment_id": "d",
            "workflow_name": "w",
            "input": {"some_key": 1},
            "execution_context": {"queue_namespace": None},
        },
    )
    assert data_of(event) == {
        "deploymentId": "d",
        "workflowName": "w",
        "input": {"some_key": 1},
        "executionContext": {"queue_namespace": None},
    }


def test_events_in_wire_form() -> None:
    for keys in (
        ("eventType", "correlationId", "eventData", "specVersion", "occurredAt"),
        ("event_type", "correlation_id", "event_data", "spec_version", "occurred_at"),
    ):
        raw = dict(zip(keys, ("hook_received", "h", {"payload": 1}, 6, START), strict=True))
        event = NewEvent.from_mapping({**raw, "resumeId": "r", "payload_digest": "d"})
        assert event == NewEvent(
            event_type="hook_received",
            correlation_id="h",
            event_data={"payload": 1},
            spec_version=6,
            occurred_at=START,
            resume_id="r",
            payload_digest="d",
        )
    assert NewEvent.from_mapping({"eventType": "run_started"}).spec_version == 5


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"eventType": 5},
        {"eventType": "run_started", "eventData": []},
        {"eventType": "run_started", "correlationId": 5},
        {"eventType": "run_started", "specVersion": "5"},
        {"eventType": "run_started", "specVersion": True},
        {"eventType": "run_started", "specVersion": 0},
        {"eventType": "run_started", "specVersion": 8},
        {"eventType": "run_started", "occurredAt": "soon"},
        {"eventType": "hook_received", "resumeId": 5},
        {"eventType": "hook_received", "payloadDigest": b""},
    ],
)
def test_wrong_wire_forms(raw: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        NewEvent.from_mapping(raw)


@pytest.mark.parametrize("bad", ["", "x" * 513, "a\0b", "\ud800"])
def test_unsafe_ids(bad: str) -> None:
    data = {"payload": b""}
    with pytest.raises(InvalidRequestError):
        checked(bad, NewEvent(event_type="run_started"))
    with pytest.raises(InvalidRequestError):
        shape("hook_received", data, correlation_id=bad)
    with pytest.raises(InvalidRequestError):
        shape("hook_received", data, resume_id=bad)
    assert shape("hook_received", data, correlation_id="x" * 512).correlation_id == "x" * 512


@pytest.mark.parametrize(
    ("event_type", "wrong"),
    [
        ("run_created", {"deploymentId": 5}),
        ("run_created", {"workflowName": b"w"}),
        ("run_created", {"workflowName": ""}),
        ("run_created", {"workflowName": "a\0b"}),
        ("run_created", {"workflowName": "w" * 2048}),
        ("run_started", {"workflowName": "w" * 2048}),
        ("run_created", {"executionContext": "text"}),
        ("run_created", {"encryptionPublicKey": 5}),
        ("run_created", {"allowReservedAttributes": "yes"}),
        ("run_failed", {"errorCode": 5}),
        ("run_cancelled", {"cancelReason": 5}),
        ("run_cancelled", {"cancelReason": "x" * 513}),
        ("run_cancelled", {"cancelReason": "😀" * 257}),
        ("step_created", {"stepName": 5}),
        ("step_retrying", {"retryAfter": "soon"}),
        ("hook_created", {"token": ""}),
        ("hook_created", {"token": "a\0"}),
        ("hook_created", {"token": 5}),
        ("hook_created", {"isWebhook": 1}),
        ("wait_created", {"resumeAt": []}),
    ],
)
def test_wrong_values(event_type: str, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        shape(event_type, {**DATA.get(event_type, {}), **wrong})


def test_the_longest_reason_and_token_pass() -> None:
    """B039, B012."""
    shape("run_cancelled", {"cancelReason": "😀" * 256})
    shape("hook_created", {"token": "é" * 5000})


@pytest.mark.parametrize(
    "raw",
    [
        "2030-01-02T03:04:05.678999Z",
        "2030-01-02T05:04:05.678+02:00",
        "2030-01-02T03:04:05.678",
        datetime(2030, 1, 2, 3, 4, 5, 678_999),
        datetime(2030, 1, 2, 5, 4, 5, 678_000, tzinfo=timezone(timedelta(hours=2))),
        int(START.timestamp() * 1000),
    ],
)
def test_times_become_utc_milliseconds(raw: object) -> None:
    event = shape("wait_created", {"resumeAt": raw})
    assert data_of(event) == {"resumeAt": START}
    assert as_time(raw, "x").tzinfo is UTC


@pytest.mark.parametrize(
    "raw",
    [
        *(None, True, b"2030", "", "2030-13-01", float("nan"), 1e300),
        *("9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_what_is_no_time(raw: object) -> None:
    with pytest.raises(InvalidRequestError):
        as_time(raw, "resumeAt")


@given(
    st.sampled_from(CREATABLE),
    st.dictionaries(
        st.sampled_from(["input", "token", "error", "resumeAt", "cancelReason", "changes", "x"])
        | st.text(max_size=3),
        st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=3) | st.floats(),
    ),
)
def test_any_data_is_accepted_or_refused(event_type: str, data: dict[str, object]) -> None:
    before = dict(data)
    try:
        event = shape(event_type, {**DATA.get(event_type, {}), **data})
    except InvalidRequestError:
        pass
    else:
        assert checked("wrun_1", event) == event
    assert data == before


def test_the_time_of_a_resume_id() -> None:
    """Spec 1.6: a ULID tells when the payload was sent; the caller's own time is kept."""
    ulid = encode_ulid(1_893_553_445_678, 5)
    event = shape("hook_received", {"payload": b""}, resume_id=ulid, occurred_at=from_ms(5))
    assert event.occurred_at == from_ms(5)
