"""HTTP callbacks: a message as a request, and its response as an outcome (spec 4.11)."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final, cast

import httpcore
import httpx

from ..api.messages import RESERVED_HEADERS
from ..clock import SYSTEM_CLOCK
from ..core.delivery import Again, Done, Failed, Outcome, Unreachable
from ..core.entities import Message
from ..core.queue_names import parse
from ..core.values import without_credentials
from ..errors import InvalidRequestError
from ..settings import Settings
from ..wire import CBOR, to_json
from .callback_url import base_url
from .connections import Connections, Headers, NotConnectedError, Response
from .handlers import ATTEMPT_HEADER, ID_HEADER, NAME_HEADER, OUTAGE_CODE, key_of, seconds

logger = logging.getLogger("workflow_world.deliver")

_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503
_SHOWN_BYTES: Final = 2000
_SHOWN_LENGTH: Final = 500
_DEFAULTS: Final = {"accept": "*/*", "user-agent": "workflow-world"}
# A message's own headers cannot say what it is, nor how long the body is or how it comes back.
_OURS: Final = RESERVED_HEADERS | {"accept-encoding", "content-length", "transfer-encoding"}
_BROKEN: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class Callbacks:
    """Calls the application. Its connections stay open between calls, until ``close``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connections = Connections(limit=settings.concurrency, total_s=settings.http_timeout_s)

    async def post(self, payload: object, message: Message) -> Outcome:
        """Call with the message; ``payload`` is its body, decoded."""
        try:
            target = _target(base_url(self._settings), parse(message.queue_name).route)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            # The reason would quote the URL, and with it perhaps a password.
            return Failed(message="The callback URL is no http or https URL")
        is_cbor = self._settings.content_type == CBOR
        body = message.payload if is_cbor else to_json(payload)
        headers = _headers(message, target, self._settings.content_type, len(body))
        try:
            response = await self._connections.post(target.url, headers, body)
        except NotConnectedError as error:
            logger.error(
                "The application at %s cannot be reached: %s", target.shown, error.__cause__
            )
            return Unreachable(message=f"{error}: {target.shown} cannot be reached")
        except TimeoutError:
            limit = self._settings.http_timeout_s
            return Failed(message=f"TimeoutError: no answer within {limit} s")
        except httpcore.LocalProtocolError:
            # The reason would quote the header.
            return Failed(message="LocalProtocolError: a header of the message cannot be sent")
        except _BROKEN as error:
            return Failed(message=f"{type(error).__name__}: {error}")
        return outcome_of(response)

    async def close(self) -> None:
        """Close the connections. No call may be on its way."""
        await self._connections.close()


def outcome_of(response: Response) -> Outcome:
    """What a callback's response means (spec 4.11; an outage that it names: design 7)."""
    status, body = response.status, _decompressed(response)
    succeeded = 200 <= status < 300
    if succeeded or status == _UNAVAILABLE:
        reply = _reply(body)
        try:
            again = _again(reply)
        except InvalidRequestError as error:
            return Failed(message=f"HTTP {status}: {error}", status=status)
        if again is not None:
            return again
        if succeeded:
            return Done()
        if reply.get("code") == OUTAGE_CODE:
            return Unreachable(message="HTTP 503: the application's database cannot be reached")
    retry_after = None
    if status in (_TOO_MANY, _UNAVAILABLE):
        retry_after = _retry_after(response.headers)
    text = body[:_SHOWN_BYTES].decode(errors="replace")[:_SHOWN_LENGTH]
    return Failed(message=f"HTTP {status}: {text}", status=status, retry_after_seconds=retry_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A callback URL taken apart; ``shown`` is what may be logged of it."""

    url: httpcore.URL
    headers: Mapping[str, str]
    shown: str


@lru_cache(maxsize=16)
def _target(base: str, route: str) -> _Target:
    """Raises: httpx.InvalidURL, httpx.UnsupportedProtocol."""
    text = f"{base}/.well-known/workflow/v1/{route}"
    url = httpx.URL(text)
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.UnsupportedProtocol("http:// or https:// and a host are needed")
    headers = {"host": url.netloc.decode("ascii"), **_DEFAULTS}
    if url.username or url.password:
        login = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        headers["authorization"] = f"Basic {login}"
    return _Target(
        url=httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        ),
        headers=headers,
        shown=without_credentials(text),
    )


def _headers(message: Message, target: _Target, content_type: str, length: int) -> Headers:
    headers = dict(target.headers)
    for name, value in (message.headers or {}).items():
        lower = name.lower()
        if lower not in _OURS and not (lower == "authorization" and lower in target.headers):
            headers[lower] = value
    headers |= {
        "accept-encoding": "identity",
        "content-type": content_type,
        "content-length": str(length),
        NAME_HEADER: message.queue_name,
        ID_HEADER: message.message_id,
        ATTEMPT_HEADER: str(message.attempt),
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _header(headers: Headers, name: bytes) -> bytes | None:
    return next((value for key, value in headers if key.lower() == name), None)


def _retry_after(headers: Headers) -> float | None:
    """The seconds of a ``Retry-After``, which names them or a date; None when there is none."""
    value = _header(headers, b"retry-after")
    if (found := seconds(value)) is not None:
        return found
    if (until := _date(value)) is None:
        return None
    # By the clock that the date is of.
    now = _date(_header(headers, b"date")) or SYSTEM_CLOCK.now()
    return max(0.0, (until - now).total_seconds())


def _date(value: bytes | None) -> datetime | None:
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value.decode("latin-1"))
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _decompressed(response: Response) -> bytes:
    """The body, also of a server that compresses without being asked to."""
    if _header(response.headers, b"content-encoding") is None:
        return response.body
    try:
        return httpx.Response(
            response.status, headers=list(response.headers), content=response.body
        ).content
    except httpx.DecodingError:
        return response.body


def _reply(body: bytes) -> Mapping[str, Any]:
    """The JSON object in the body; empty when there is none."""
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _again(reply: Mapping[str, Any]) -> Again | None:
    """Raises: InvalidRequestError for a key that no message can have."""
    delay = reply.get("timeoutSeconds")
    if isinstance(delay, bool) or not isinstance(delay, int | float) or seconds(delay) is None:
        return None
    key = reply.get("idempotencyKey")
    return Again(delay_seconds=delay, idempotency_key=key_of(key) if isinstance(key, str) else None)
