"""The event types as data, and the check of an event's shape (spec 2.3 step 1, 2.5 to 2.9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from ..errors import InvalidRequestError
from .entities import EventData
from .queue_names import is_workflow_name
from .values import aware_ms, is_safe_id, utf16_length

CURRENT_SPEC_VERSION: Final = 5
MAX_SPEC_VERSION: Final = 7
SLOT_IDS_SPEC_VERSION: Final = 6
MAX_CANCEL_REASON: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """What the shape check and the read filters know of one event type.

    Attributes:
        required: event data keys that must be there.
        payload: the one key whose value is opaque, kept when it is null, and left out with
            ``resolve_data="none"``.
        dates: keys that hold times.
        correlated: a correlation id is required.
        creatable: callers may send it.
    """

    required: tuple[str, ...] = ()
    payload: str | None = None
    dates: tuple[str, ...] = ()
    correlated: bool = False
    creatable: bool = True


EVENT_TYPES: Final[Mapping[str, EventType]] = MappingProxyType(
    {
        "run_created": EventType(
            required=("deploymentId", "workflowName", "input"), payload="input"
        ),
        "run_started": EventType(payload="input"),
        "run_completed": EventType(payload="output"),
        "run_failed": EventType(required=("error",), payload="error"),
        "run_cancelled": EventType(),
        "attr_set": EventType(required=("changes", "writer")),
        "step_created": EventType(required=("stepName", "input"), payload="input", correlated=True),
        "step_started": EventType(correlated=True),
        "step_retrying": EventType(
            required=("error",), payload="error", dates=("retryAfter",), correlated=True
        ),
        "step_completed": EventType(payload="result", correlated=True),
        "step_failed": EventType(required=("error",), payload="error", correlated=True),
        "hook_created": EventType(
            required=("token",),
            payload="metadata",
            dates=("tokenRetentionUntil",),
            correlated=True,
        ),
        "hook_received": EventType(required=("payload",), payload="payload", correlated=True),
        "hook_disposed": EventType(correlated=True),
        "hook_conflict": EventType(correlated=True, creatable=False),
        "wait_created": EventType(required=("resumeAt",), dates=("resumeAt",), correlated=True),
        "wait_completed": EventType(dates=("resumeAt",), correlated=True),
        "noop": EventType(creatable=False),
    }
)

SINGLE_EVENTS: Final = (
    "step_created",
    "wait_created",
    "wait_completed",
    "hook_created",
    "hook_conflict",
    "hook_disposed",
    "attr_set",
)
"""At most one of each per (run, correlation id); a database constraint says so too (spec 2.9)."""

STEP_OUTCOMES: Final = ("step_completed", "step_failed")
"""At most one of the two per (run, step)."""

WAKING_EVENTS: Final = ("step_completed", "step_failed", "hook_received", "wait_completed")
"""What a suspended run waits for: the sweep looks for these (spec 4.10)."""

RUN_FINAL_EVENTS: Final = ("run_completed", "run_failed", "run_cancelled")

_TEXTS: Final = frozenset({"deploymentId", "workflowName", "stepName", "token"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event as a caller proposes it.

    ``event_data`` has the wire's camelCase keys. ``resume_id`` and ``payload_digest`` are for
    ``hook_received`` only (spec 2.8).
    """

    event_type: str
    correlation_id: str | None = None
    spec_version: int = CURRENT_SPEC_VERSION
    event_data: EventData | None = None
    resume_id: str | None = None
    payload_digest: str | None = None
    occurred_at: datetime | None = None

    @classmethod
    def from_mapping(cls, raw: Mapping[str, object]) -> NewEvent:
        """Read an event in wire form; snake_case spellings of the own keys are accepted too.

        Raises: InvalidRequestError when a key holds the wrong type.
        """

        def pick(camel: str, snake: str) -> object:
            return raw[camel] if camel in raw else raw.get(snake)

        event_type = pick("eventType", "event_type")
        if not isinstance(event_type, str):
            raise InvalidRequestError("eventType is required")
        data = pick("eventData", "event_data")
        if data is not None and not isinstance(data, Mapping):
            raise InvalidRequestError("eventData must be a map")
        version = pick("specVersion", "spec_version")
        occurred = pick("occurredAt", "occurred_at")
        return cls(
            event_type=event_type,
            correlation_id=_text_or_none(pick("correlationId", "correlation_id"), "correlationId"),
            spec_version=CURRENT_SPEC_VERSION if version is None else _version(version),
            event_data=data,  # pyright: ignore[reportUnknownArgumentType]  # checked in `checked`
            resume_id=_text_or_none(pick("resumeId", "resume_id"), "resumeId"),
            payload_digest=_text_or_none(pick("payloadDigest", "payload_digest"), "payloadDigest"),
            occurred_at=None if occurred is None else as_time(occurred, "occurredAt"),
        )


def checked(run_id: str | None, event: NewEvent) -> NewEvent:
    """Check an event's shape and bring it into its stored form (spec 1.9, 2.3 step 1).

    Absent and null own keys are told apart, snake_case keys become camelCase, times are cut to
    milliseconds.

    Raises: InvalidRequestError, with nothing written.
    """
    kind = EVENT_TYPES.get(event.event_type)
    if kind is None:
        raise InvalidRequestError(f"Unknown event type {event.event_type!r}")
    if not kind.creatable:
        raise InvalidRequestError(f"Events of type {event.event_type!r} are written by the World")
    if run_id is None and event.event_type != "run_created":
        raise InvalidRequestError(f"runId is required for {event.event_type} events")
    _check_id("runId", run_id)
    _check_id("correlationId", event.correlation_id)
    _check_id("resumeId", event.resume_id)
    _check_id("payloadDigest", event.payload_digest)
    _version(event.spec_version)
    if kind.correlated and event.correlation_id is None:
        raise InvalidRequestError(f"correlationId is required for {event.event_type} events")
    data = _clean(event.event_type, kind, event.event_data)
    missing = [key for key in kind.required if key not in data]
    if missing:
        raise InvalidRequestError(f"{event.event_type} events need {', '.join(missing)}")
    _check_values(event.event_type, data)
    return NewEvent(
        event_type=event.event_type,
        correlation_id=event.correlation_id,
        spec_version=event.spec_version,
        event_data=data or None,
        # On any other event a resume id would claim a payload that never came (spec 1.6).
        resume_id=event.resume_id if event.event_type == "hook_received" else None,
        payload_digest=event.payload_digest if event.event_type == "hook_received" else None,
        occurred_at=None if event.occurred_at is None else as_time(event.occurred_at, "occurredAt"),
    )


def _check_id(name: str, value: str | None) -> None:
    if value is not None and not is_safe_id(value):
        raise InvalidRequestError(f"{name} must be 1 to 512 characters without NUL")


def data_of(event: NewEvent) -> EventData:
    return event.event_data or {}


def as_time(value: object, name: str) -> datetime:
    """A time from a datetime or ISO-8601 text. Raises: InvalidRequestError."""
    try:
        if isinstance(value, datetime):
            return aware_ms(value)
        if isinstance(value, str):
            return aware_ms(datetime.fromisoformat(value))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return aware_ms(datetime.fromtimestamp(value / 1000, UTC))
    except (ValueError, OverflowError, OSError):
        pass  # no time, or one that is before the year 1 or after 9999 in UTC
    raise InvalidRequestError(f"{name} must be a time, not {value!r:.80}")


def _clean(event_type: str, kind: EventType, data: object) -> dict[str, object]:
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise InvalidRequestError("eventData must be a map")
    cleaned: dict[str, object] = {}
    for key, value in data.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(key, str):
            raise InvalidRequestError("eventData keys must be text")
        name = _camel(key)
        # A null means "absent" except where null is a value of its own (spec 1.9).
        if value is None and name != kind.payload:
            continue
        cleaned[name] = value
    for name in kind.dates:
        if name in cleaned:
            cleaned[name] = as_time(cleaned[name], name)
    if event_type == "run_started" and "input" in cleaned and cleaned["input"] is None:
        # The SDK's model spells "no creation data" as a null input.
        del cleaned["input"]
    return cleaned


def _camel(key: str) -> str:
    if "_" not in key:
        return key
    head, *rest = key.split("_")
    return head + "".join(part.capitalize() for part in rest) if head and rest else key


def _check_values(event_type: str, data: Mapping[str, object]) -> None:
    for name in _TEXTS & data.keys():
        if not isinstance(data[name], str):
            raise InvalidRequestError(f"{name} must be text")
    workflow = data.get("workflowName")
    # A ``run_started`` without a name creates no run, and is not refused for that (spec 2.5).
    if (workflow or event_type == "run_created") and not is_workflow_name(str(workflow)):
        raise InvalidRequestError(
            "A queue is named after workflowName: it must not be empty, contain NUL or lone "
            "surrogates, or be too long"
        )
    if event_type == "hook_created" and not is_safe_id(str(data["token"]), limit=None):
        raise InvalidRequestError("token must not be empty or contain NUL")
    reason = data.get("cancelReason")
    if reason is not None:
        if not isinstance(reason, str):
            raise InvalidRequestError("cancelReason must be text")
        if utf16_length(reason) > MAX_CANCEL_REASON:
            raise InvalidRequestError(
                f"cancelReason must be at most {MAX_CANCEL_REASON} UTF-16 code units"
            )
    context = data.get("executionContext")
    if context is not None and not isinstance(context, Mapping):
        raise InvalidRequestError("executionContext must be a map")
    for name in ("errorCode", "encryptionPublicKey"):
        if name in data and not isinstance(data[name], str):
            raise InvalidRequestError(f"{name} must be text")
    for name in ("isWebhook", "isSystem", "allowReservedAttributes"):
        if name in data and not isinstance(data[name], bool):
            raise InvalidRequestError(f"{name} must be true or false")


def _text_or_none(value: object, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InvalidRequestError(f"{name} must be text")


def _version(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SPEC_VERSION:
        return value
    raise InvalidRequestError(f"specVersion must be 1 to {MAX_SPEC_VERSION}, not {value!r}")
