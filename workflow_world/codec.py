"""Values to stored bytes and back: CBOR (RFC 8949), exact for bytes, null and undefined (spec 1.8).

``ABSENT`` has no encoding: a payload column is empty instead. Times keep their milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

import cbor2

from .core.entities import ABSENT, EventData, Payload
from .errors import BackendError, InvalidRequestError

UNDEFINED: Final = cbor2.undefined
MAX_DEPTH: Final = 400
_FLAT: Final = frozenset({bytes, str, int, float, bool, type(None)})
_PLAIN: Final = _FLAT | {list, tuple, dict, type(UNDEFINED)}
# cbor2 imports a dozen modules when it first meets a time. Were that left to a thread of ours, the
# SDK's sandbox could find ``sys.modules`` changing under it, and would fail the run.
cbor2.dumps(datetime(1970, 1, 1, tzinfo=UTC))

_CONTEXT_KEYS: Final = ("executionContext", "execution_context")


def encode(value: object) -> bytes:
    """CBOR of any JSON-like value, bytes, datetime, ``None`` or ``UNDEFINED``.

    Raises: InvalidRequestError for a value that CBOR cannot carry, or that is nested deeper than
        ``decode`` reads: what is written can be read again.
    """
    plain = _is_plain(value)
    try:
        data = cbor2.dumps(value)
    except (cbor2.CBOREncodeError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise InvalidRequestError(f"The value cannot be stored as CBOR: {error}") from error
    if not plain:
        # The encoder takes more than the decoder gives back: a tag that says nothing, sets and
        # keys that are nested too deep.
        try:
            decode(data)
        except BackendError as error:
            raise InvalidRequestError(
                f"The value cannot be stored as CBOR, for it could not be read again: "
                f"{error.__cause__}"
            ) from error
    return data


def decode(data: bytes) -> Any:
    """Raises: BackendError with code ``CORRUPT`` when the bytes are no CBOR value."""
    try:
        return cbor2.loads(data, tag_hook=_untag, max_depth=MAX_DEPTH)
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError, EOFError) as error:
        raise BackendError(f"A stored value cannot be decoded: {error}", code="CORRUPT") from error


def encode_payload(value: Payload) -> bytes | None:
    """A payload column: None for ``ABSENT`` and undefined."""
    return None if value is ABSENT or value is UNDEFINED else encode(value)


def decode_payload(data: bytes | None) -> Payload:
    return ABSENT if data is None else decode(data)


def encode_map(value: Mapping[str, object] | None) -> bytes | None:
    return None if value is None else encode(dict(value))


def decode_map(data: bytes | None) -> EventData | None:
    return None if data is None else decode(data)


def has_undefined(data: Mapping[str, object]) -> bool:
    """Whether ``without_undefined`` may have something to do."""
    return any(value is UNDEFINED or name in _CONTEXT_KEYS for name, value in data.items())


def without_undefined(data: Mapping[str, object]) -> dict[str, object]:
    """Event data without keys whose own value is undefined: at that level it means absent.

    The same holds for the own keys of an execution context (spec 1.9).
    """
    kept = {key: value for key, value in data.items() if value is not UNDEFINED}
    for name in _CONTEXT_KEYS:
        context = kept.get(name)
        if isinstance(context, Mapping):
            kept[name] = without_undefined(cast("Mapping[str, object]", context))
    return kept


def _is_plain(value: object) -> bool:
    """Whether all of it is of types that surely come back.

    Raises: InvalidRequestError for what is nested too deep.
    """
    if type(value) in _FLAT or _is_flat_map(value):
        return True
    level, depth, plain = [value], 1, True
    while level:
        if depth > MAX_DEPTH:
            raise InvalidRequestError(f"The value is nested more than {MAX_DEPTH} levels deep")
        plain = plain and all(map(_comes_back, level))
        # Each part once: with two references to itself, a value would double with each level.
        parts = {id(item): item for container in level for item in _parts(container)}
        level, depth = [*parts.values()], depth + 1
    # At the last level a number of more than 64 bits is one level more.
    return plain and depth <= MAX_DEPTH


def _comes_back(item: object) -> bool:
    """Whether the item, apart from what it contains, is the same for the decoder."""
    if type(item) is dict:
        return _FLAT.issuperset(map(type, cast("dict[object, object]", item)))
    return type(item) in _PLAIN or (isinstance(item, datetime) and item.tzinfo is UTC)


def _is_flat_map(value: object) -> bool:
    """As nearly all event data is."""
    return (
        isinstance(value, dict)
        and _FLAT.issuperset(map(type, cast("dict[str, object]", value).values()))
        and _FLAT.issuperset(map(type, cast("dict[object, object]", value)))
    )


def _parts(value: object) -> Collection[object]:
    """What a container holds that may be a container too."""
    items: Collection[object]
    if type(value) is dict or isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).values()
    elif isinstance(value, list | tuple):
        items = cast("Collection[object]", value)
    else:
        return ()
    return [item for item in items if type(item) not in _FLAT]


def _untag(tag: cbor2.CBORTag, immutable: bool = False) -> object:
    # Tag 64: a typed array of bytes, as JavaScript writes a Uint8Array.
    if tag.tag == 64 and isinstance(tag.value, bytes):
        return tag.value
    return tag
