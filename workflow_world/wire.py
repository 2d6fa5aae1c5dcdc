"""Payloads as callback bodies: JSON with typed bytes, or CBOR (spec 4.11)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

from . import codec
from .core.values import iso_ms
from .errors import BackendError, InvalidRequestError

JSON: Final = "application/json"
CBOR: Final = "application/cbor"
_TYPE_KEY: Final = "__type"
_BYTES: Final = "Uint8Array"


def to_json(value: object) -> bytes:
    """JSON text; bytes become ``{"__type": "Uint8Array", "data": base64}``, times ISO texts."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).encode()


def from_json(body: bytes) -> Any:
    """Raises: InvalidRequestError when the body is not such JSON."""
    try:
        return json.loads(body, object_hook=_revive)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise InvalidRequestError(f"The body is not JSON: {error}") from error


def decode_body(body: bytes, content_type: str) -> Any:
    """A body by its content type; an unlabelled one is tried as JSON, then as CBOR.

    Raises: InvalidRequestError.
    """
    label = content_type.partition(";")[0].strip().lower()
    if label == CBOR:
        return _from_cbor(body)
    try:
        return from_json(body)
    except InvalidRequestError:
        if label == JSON:
            raise
        return _from_cbor(body)


def _from_cbor(body: bytes) -> Any:
    try:
        return codec.decode(body)
    except BackendError as error:
        raise InvalidRequestError("The body is not CBOR") from error


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray):
        return {_TYPE_KEY: _BYTES, "data": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return iso_ms(value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return {str(key): _plain(item) for key, item in pairs if item is not codec.UNDEFINED}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[object]", value)]
    return None if value is codec.UNDEFINED else value


def _revive(pairs: dict[str, Any]) -> Any:
    if pairs.get(_TYPE_KEY) == _BYTES and isinstance(pairs.get("data"), str):
        return base64.b64decode(pairs["data"], validate=True)
    return pairs
