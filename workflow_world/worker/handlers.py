"""Handlers registered in this process, and the HTTP form of each (spec 4.12, 4.13)."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from typing import Any, Final, cast

from ..core.delivery import Again
from ..core.values import is_safe_id, without_credentials
from ..errors import OUTAGE_CODES, BackendError, InvalidRequestError
from ..http import Continuation, HTTPHandler, HTTPRequest, HTTPResponse, QueueHandler
from ..wire import decode_body

logger = logging.getLogger("workflow_world.handlers")

NAME_HEADER: Final = "x-vqs-queue-name"
ID_HEADER: Final = "x-vqs-message-id"
ATTEMPT_HEADER: Final = "x-vqs-message-attempt"
OUTAGE_CODE: Final = "BACKEND"
"""``code`` in the body of a 503: the application's database failed, so nothing is charged."""
NOT_THE_HANDLERS: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)
"""What comes out of a handler without being an error of its own."""
_SUMMARY_LENGTH: Final = 500


class Handlers:
    """Queue-name prefixes and who handles them; the longest matching prefix wins."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, QueueHandler] = {}
        self._http: dict[str, HTTPHandler] = {}

    def register(self, prefix: str, handler: QueueHandler) -> HTTPHandler:
        """Replaces the prefix's earlier handler, if any."""
        self._by_prefix[prefix] = handler
        self._http[prefix] = _http_handler(prefix, handler)
        return self._http[prefix]

    @property
    def prefixes(self) -> tuple[str, ...]:
        return tuple(self._by_prefix)

    def find(self, queue_name: str) -> QueueHandler | None:
        prefix = self._match(queue_name)
        return None if prefix is None else self._by_prefix[prefix]

    async def handle(self, request: HTTPRequest) -> HTTPResponse:
        """A callback for any of the registered prefixes."""
        prefix = self._match(lowered(request.headers).get(NAME_HEADER, ""))
        # Without a match the checks still have to name what is wrong, in their order.
        handler = self._http[prefix] if prefix is not None else _http_handler("\0", _nobody)
        return await handler(request)

    def _match(self, queue_name: str) -> str | None:
        matches = [prefix for prefix in self._by_prefix if queue_name.startswith(prefix)]
        return max(matches, key=len, default=None)


def again_of(continuation: Continuation) -> Again:
    """What a handler's continuation asks for; the SDK's class has the same two attributes.

    Raises: InvalidRequestError for a key that no message can have.
    """
    return Again(
        delay_seconds=max(0.0, float(continuation.delay_seconds)),
        idempotency_key=key_of(continuation.idempotency_key),
    )


def key_of(value: object) -> str | None:
    """An idempotency key that somebody else named, or None if there is none.

    Raises: InvalidRequestError for one that no message can have.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not is_safe_id(value):
        raise InvalidRequestError(
            "A continuation's idempotency key must be 1 to 512 characters without NUL"
        )
    return value


def outage_in(error: BaseException) -> BackendError | None:
    """The database failure behind an error, when nothing else is: task groups wrap theirs."""
    if grouped := _grouped(error):
        causes = [outage_in(inner) for inner in grouped]
        return causes[0] if all(causes) else None
    if isinstance(error, BackendError) and error.code in OUTAGE_CODES:
        return error
    return None


def _grouped(error: BaseException) -> tuple[BaseException, ...]:
    """The errors of an exception group; none for any other error."""
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]


def summary_of(error: BaseException) -> str:
    """The error's type and the first line of its text; a group's are those of its first error."""
    while grouped := _grouped(error):
        error = grouped[0]
    line = next(iter(str(error).splitlines()), "")
    return without_credentials(f"{type(error).__name__}: {line}")[:_SUMMARY_LENGTH]


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by lower-case name; values that are UTF-8 under the server's Latin-1 are read so."""
    return {name.lower(): _utf8(value) for name, value in headers.items()}


def _utf8(value: str) -> str:
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _http_handler(prefix: str, handler: QueueHandler) -> HTTPHandler:
    async def handle(request: HTTPRequest) -> HTTPResponse:
        headers = lowered(request.headers)
        name, message_id = headers.get(NAME_HEADER), headers.get(ID_HEADER)
        attempt = _positive(headers.get(ATTEMPT_HEADER))
        if not name or not message_id or attempt is None:
            return _refused("Missing required headers")
        body = b"".join([part async for part in request.aiter_bytes()])
        if not body:
            return _refused("Missing request body")
        if not name.startswith(prefix):
            return _refused("Unhandled queue")
        try:
            message: object = decode_body(body, headers.get("content-type", ""))
        except InvalidRequestError:
            return _refused("Invalid message body")
        try:
            result = await handler(message, attempt=attempt, queue_name=name, message_id=message_id)
            again = None if result is None else again_of(result)
        except NOT_THE_HANDLERS:
            raise
        except BaseException as error:
            if outage_in(error) is not None:
                # The sender tries again without charging an attempt (design 7).
                logger.warning("The database failed under message %s", message_id)
                return _unavailable()
            logger.exception("The handler of %s failed on message %s", prefix, message_id)
            return HTTPResponse.json({"error": str(error) or type(error).__name__}, status=500)
        if again is None:
            return HTTPResponse.json({"ok": True})
        reply: dict[str, object] = {"timeoutSeconds": again.delay_seconds}
        if again.idempotency_key is not None:
            reply["idempotencyKey"] = again.idempotency_key
        return HTTPResponse.json(reply, status=503)

    return handle


async def _nobody(
    message: object, *, attempt: int, queue_name: str, message_id: str
) -> Continuation | None:
    raise AssertionError("no queue name starts with NUL")


def _unavailable() -> HTTPResponse:
    body = {"error": "The database cannot be reached", "code": OUTAGE_CODE}
    response = HTTPResponse.json(body, status=503)
    response.headers["retry-after"] = "1"
    return response


def _refused(reason: str) -> HTTPResponse:
    return HTTPResponse.json({"error": reason}, status=400)


def _positive(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit():
        return None
    number = int(text[:12])
    return number if number >= 1 else None


def seconds(value: object) -> float | None:
    """A delay that somebody else named, in seconds; None when it is no such number."""
    try:
        number = float(cast("Any", value))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None
