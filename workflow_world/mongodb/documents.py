"""Documents to entities and back: the fields are those of the entities, by the same names.

What an entity does not have is left out of its document, never null (spec 6.6). Payloads and maps
are CBOR, exact for bytes, null and undefined, so that no key of theirs is a field's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from ..codec import decode_payload, encode_map, encode_payload
from ..core.entities import ABSENT, Chunk, Event, Hook, Message, Run, Step
from ..errors import BackendError

Document: TypeAlias = dict[str, Any]
T = TypeVar("T", bound=Run | Step | Event | Hook | Message)

CORRUPT: Final = "CORRUPT"
SEPARATOR: Final = "\0"
"""Between the parts of a key: no id holds it (spec 1.1)."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: Final[Mapping[type, str]] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    bytes: "bytes",
    datetime: "a time",
    list: "a list",
}


@dataclass(frozen=True, slots=True)
class Field:
    """How one field of an entity is stored: of which type, and whether it may be absent."""

    stored: type
    optional: bool = True
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None
    absent: object = None


def _pairs(value: Mapping[str, str] | None) -> list[str] | None:
    """A list of JSON texts, in which one pair can be looked for."""
    return [pair_of(*pair) for pair in value.items()] if value else None


def _unpaired(stored: list[str]) -> dict[str, str]:
    return dict(json.loads(pair) for pair in stored)


def _map(stored: bytes) -> Mapping[str, object]:
    value = decode_payload(stored)
    if not isinstance(value, dict):
        raise ValueError("a map was expected")
    return cast("Mapping[str, object]", value)


def pair_of(key: str, value: str) -> str:
    """An attribute as it stands in a run's document."""
    return json.dumps([key, value], ensure_ascii=True, separators=(",", ":"))


_TEXT, _MAYBE_TEXT = Field(str, optional=False), Field(str)
_TIME, _MAYBE_TIME = Field(datetime, optional=False), Field(datetime)
_COUNT, _MAYBE_COUNT = Field(int, optional=False), Field(int)
_PAYLOAD: Final = Field(bytes, encode=encode_payload, decode=decode_payload, absent=ABSENT)
_MAP: Final = Field(bytes, encode=encode_map, decode=_map)


class Kind(Generic[T]):
    """One collection: what its documents look like.

    Attributes:
        collection: its name.
        payloads: the fields that a caller may not want.
    """

    def __init__(
        self, entity: type[T], collection: str, key: Callable[[T], str], **known: Field
    ) -> None:
        self.collection, self._entity, self._key = collection, entity, key
        names = [field.name for field in fields(entity) if field.name != "damage"]
        self._fields = {name: known[name] for name in names}
        self.payloads = tuple(name for name, one in known.items() if one is _PAYLOAD)

    def id_of(self, entity: T) -> str:
        return self._key(entity)

    def document(self, entity: T) -> Document:
        """Without what only the backend knows. Raises: InvalidRequestError."""
        found: Document = {"_id": self._key(entity)}
        for name, field in self._fields.items():
            value = getattr(entity, name)
            if field.encode is not None:
                value = field.encode(value)
            if value is not None:
                found[name] = value
        return found

    def entity(self, document: Mapping[str, Any]) -> T:
        """Raises: BackendError with code CORRUPT, which names the document and quotes nothing."""
        values: dict[str, Any] = {}
        for name, field in self._fields.items():
            value = document.get(name)
            if value is None:
                if not field.optional:
                    raise self._damaged(document, f"it has no {name}")
                values[name] = {} if name == "attributes" else field.absent
                continue
            if type(value) is not field.stored:
                raise self._damaged(document, f"{name} is not {_KINDS[field.stored]}")
            if field.decode is not None:
                try:
                    value = field.decode(value)
                except (ValueError, TypeError, LookupError, BackendError) as error:
                    raise self._damaged(document, f"{name} cannot be read") from error
            values[name] = value
        return self._entity(**values)

    def readable(self, document: Mapping[str, Any]) -> T:
        """``entity``, with something of the right type wherever it cannot be read, and ``damage``
        that says so: for a worker."""
        try:
            return self.entity(document)
        except BackendError as error:
            damage = str(error)
        kept = {"_id": document["_id"]}
        for name, field in self._fields.items():
            try:
                kept[name] = self._checked(field, document.get(name))
            except (ValueError, TypeError, LookupError, BackendError):
                if not field.optional:
                    kept[name] = _EPOCH if field.stored is datetime else field.stored()
        return cast("T", replace(cast("Any", self.entity(kept)), damage=damage))

    @staticmethod
    def _checked(field: Field, value: object) -> object:
        if type(value) is not field.stored:
            raise TypeError
        if field.decode is not None:
            field.decode(value)
        return value

    def _damaged(self, document: Mapping[str, Any], reason: str) -> BackendError:
        key = document.get("_id")
        return BackendError(
            f"The document of {self.collection} with _id {key!r:.300} is damaged: {reason}",
            code=CORRUPT,
        )


def step_key(run_id: str, step_id: str) -> str:
    return f"{run_id}{SEPARATOR}{step_id}"


def event_key(run_id: str, position: int) -> str:
    return f"{run_id}{SEPARATOR}{position:012d}"


RUNS: Final = Kind(
    Run,
    "runs",
    lambda run: run.run_id,
    run_id=_TEXT,
    status=_TEXT,
    deployment_id=_TEXT,
    workflow_name=_TEXT,
    spec_version=_MAYBE_COUNT,
    execution_context=_MAP,
    input=_PAYLOAD,
    output=_PAYLOAD,
    error=_PAYLOAD,
    error_code=_MAYBE_TEXT,
    attributes=Field(list, encode=_pairs, decode=_unpaired),
    encryption_public_key=_MAYBE_TEXT,
    expired_at=_MAYBE_TIME,
    started_at=_MAYBE_TIME,
    completed_at=_MAYBE_TIME,
    created_at=_TIME,
    updated_at=_TIME,
)

STEPS: Final = Kind(
    Step,
    "steps",
    lambda step: step_key(step.run_id, step.step_id),
    run_id=_TEXT,
    step_id=_TEXT,
    step_name=_TEXT,
    status=_TEXT,
    input=_PAYLOAD,
    output=_PAYLOAD,
    error=_PAYLOAD,
    attempt=_COUNT,
    started_at=_MAYBE_TIME,
    completed_at=_MAYBE_TIME,
    retry_after=_MAYBE_TIME,
    created_at=_TIME,
    updated_at=_TIME,
    spec_version=_MAYBE_COUNT,
)

EVENTS: Final = Kind(
    Event,
    "events",
    lambda event: event_key(event.run_id, event.position),
    run_id=_TEXT,
    event_id=_TEXT,
    position=_COUNT,
    event_type=_TEXT,
    correlation_id=_MAYBE_TEXT,
    spec_version=_COUNT,
    event_data=_MAP,
    created_at=_TIME,
    occurred_at=_MAYBE_TIME,
    resume_id=_MAYBE_TEXT,
    payload_digest=_MAYBE_TEXT,
    due_at=_MAYBE_TIME,
)

HOOKS: Final = Kind(
    Hook,
    "hooks",
    lambda hook: step_key(hook.run_id, hook.hook_id),
    run_id=_TEXT,
    hook_id=_TEXT,
    token=_TEXT,
    owner_id=_TEXT,
    project_id=_TEXT,
    environment=_TEXT,
    metadata=_PAYLOAD,
    created_at=_TIME,
    spec_version=_MAYBE_COUNT,
    is_webhook=Field(bool),
    is_system=Field(bool),
)

MESSAGES: Final = Kind(
    Message,
    "queue_messages",
    lambda message: message.message_id,
    message_id=_TEXT,
    queue_name=_TEXT,
    payload=Field(bytes, optional=False),
    status=_TEXT,
    attempt=_COUNT,
    max_attempts=_COUNT,
    deliveries=_COUNT,
    idempotency_key=_MAYBE_TEXT,
    available_at=_TIME,
    lease_token=_MAYBE_TEXT,
    leased_until=_MAYBE_TIME,
    claimed_at=_MAYBE_TIME,
    run_id=_MAYBE_TEXT,
    step_id=_MAYBE_TEXT,
    is_wake_up=Field(bool, optional=False),
    deployment_id=_MAYBE_TEXT,
    headers=_MAP,
    last_error=_MAP,
    created_at=_TIME,
    updated_at=_TIME,
    processed_at=_MAYBE_TIME,
)

CHUNKS: Final = "stream_chunks"
"""Its documents: run_id, stream_name, chunk_index, data, created_at; ``is_eof`` on the last."""


def chunk_key(run_id: str, name: str, index: int) -> str:
    return f"{run_id}{SEPARATOR}{name}{SEPARATOR}{index:012d}"


def chunk_of(document: Mapping[str, Any]) -> Chunk:
    """Raises: BackendError with code CORRUPT."""
    data = document.get("data")
    if type(data) is not bytes:
        raise _damaged_chunk(document)
    return Chunk(index=index_of(document), data=data)


def index_of(document: Mapping[str, Any]) -> int:
    """Of a chunk. Raises: BackendError with code CORRUPT."""
    index = document.get("chunk_index")
    if type(index) is not int:
        raise _damaged_chunk(document)
    return index


def begun_as(document: Mapping[str, Any]) -> tuple[datetime, str]:
    """When a chunk was written, and to which stream. Raises: BackendError with code CORRUPT."""
    at, name = document.get("created_at"), document.get("stream_name")
    if not isinstance(at, datetime) or not isinstance(name, str):
        raise _damaged_chunk(document)
    return at, name


def _damaged_chunk(document: Mapping[str, Any]) -> BackendError:
    return BackendError(
        f"The document of {CHUNKS} with _id {document.get('_id')!r:.300} is damaged",
        code=CORRUPT,
    )
