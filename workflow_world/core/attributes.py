"""Run attributes: their limits and how a change is merged (spec 2.9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from ..errors import InvalidAttributesError
from .values import utf16_length

MAX_KEY_UTF16: Final = 256
MAX_VALUE_BYTES: Final = 256
MAX_ATTRIBUTES: Final = 64
RESERVED_PREFIX: Final = "$"


def changes_of(raw: object) -> list[tuple[str, str | None]]:
    """Changes from a list of ``{key, value}`` or, at run creation, from a map.

    Raises: InvalidAttributesError when the form or a type is wrong.
    """
    if raw is None:
        return []
    pairs: list[tuple[object, object]] = []
    if isinstance(raw, Mapping):
        pairs = list(cast("Mapping[object, object]", raw).items())
    elif isinstance(raw, list | tuple):
        for item in cast("Sequence[object]", raw):
            if not isinstance(item, Mapping) or "key" not in item:
                raise InvalidAttributesError("Each attribute change needs a key and a value")
            change = cast("Mapping[str, object]", item)
            pairs.append((change["key"], change.get("value")))
    else:
        raise InvalidAttributesError("Attributes must be a map or a list of changes")
    changes: list[tuple[str, str | None]] = []
    for key, value in pairs:
        if not isinstance(key, str) or not (value is None or isinstance(value, str)):
            raise InvalidAttributesError("Attribute keys are text, values are text or null")
        changes.append((key, value))
    return changes


def merged(
    attributes: Mapping[str, str], changes: Iterable[tuple[str, str | None]], *, reserved: bool
) -> dict[str, str]:
    """The attributes after the changes; a null removes its key.

    Raises: InvalidAttributesError, naming the rule that was broken.
    """
    result, seen = dict(attributes), set[str]()
    for key, value in changes:
        _check(key, value, reserved=reserved)
        if key in seen:
            raise InvalidAttributesError(f"Attribute {key!r} appears more than once")
        seen.add(key)
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value
    if len(result) > MAX_ATTRIBUTES and len(result) > len(attributes):
        raise InvalidAttributesError(
            f"A run has at most {MAX_ATTRIBUTES} attributes, this would make {len(result)}"
        )
    return result


def is_storable(key: str, value: str) -> bool:
    """Whether the limits of length allow any run to have the pair."""
    size = len(value.encode(errors="surrogatepass"))
    return utf16_length(key) <= MAX_KEY_UTF16 and size <= MAX_VALUE_BYTES


def _check(key: str, value: str | None, *, reserved: bool) -> None:
    try:
        size = len((value or "").encode())
        key.encode()
    except UnicodeEncodeError:
        raise InvalidAttributesError("Attribute text must be valid Unicode") from None
    if not key:
        raise InvalidAttributesError("Attribute key must not be empty")
    if utf16_length(key) > MAX_KEY_UTF16:
        raise InvalidAttributesError(
            f"Attribute key {key[:32]!r}… is longer than {MAX_KEY_UTF16} UTF-16 code units"
        )
    if key.startswith(RESERVED_PREFIX) and not reserved:
        raise InvalidAttributesError(
            f"Attribute key {key!r} starts with {RESERVED_PREFIX!r}, which is reserved"
        )
    if size > MAX_VALUE_BYTES:
        raise InvalidAttributesError(
            f"The value of attribute {key!r} is longer than {MAX_VALUE_BYTES} bytes"
        )
