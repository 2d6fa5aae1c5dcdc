"""One delivery: call the handler in this process or over HTTP, and name the outcome."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from typing import Any, Final, cast

import httpx

from ..api.messages import RESERVED_HEADERS
from ..codec import decode
from ..core.delivery import Again, Done, Failed, Outcome, Unreachable
from ..core.entities import Message
from ..core.queue_names import parse
from ..core.values import without_credentials
from ..errors import BackendError
from ..http import QueueHandler
from ..settings import Settings
from ..wire import CBOR, to_json
from .handlers import (
    ATTEMPT_HEADER,
    ID_HEADER,
    NAME_HEADER,
    Handlers,
    again_of,
    outage_in,
    summary_of,
)

logger = logging.getLogger("workflow_world.deliver")

_CONNECT_TIMEOUT_S: Final = 10.0
_NOT_THERE: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_SERVICE_URL: Final = "WORKFLOW_SERVICE_URL"
_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503


class Deliverer:
    """Delivers to registered handlers directly and to everything else by HTTP callback."""

    def __init__(self, settings: Settings, handlers: Handlers) -> None:
        self._settings, self._handlers = settings, handlers
        self._client: httpx.AsyncClient | None = None

    @property
    def prefixes(self) -> tuple[str, ...] | None:
        """Which queues this worker serves; None: all.

        A process that handles some queues itself leaves the others to whoever handles those,
        unless it was told where to call.
        """
        mode = self._settings.delivery
        if mode == "http":
            return None
        explicit = self._settings.base_url or os.environ.get(_SERVICE_URL)
        if mode == "inprocess" or (self._handlers.prefixes and not explicit):
            return self._handlers.prefixes
        return None

    async def deliver(self, message: Message) -> Outcome:
        """Never raises but for cancellation: what goes wrong is the delivery's outcome."""
        try:
            return await self._deliver(message)
        except Exception as error:
            logger.exception("Message %s could not be delivered", message.message_id)
            return Failed(message=summary_of(error))

    async def _deliver(self, message: Message) -> Outcome:
        try:
            payload: object = decode(message.payload)
        except BackendError as error:
            return Failed(message=f"The message body cannot be decoded: {error}")
        handler = None
        if self._settings.delivery != "http":
            handler = self._handlers.find(message.queue_name)
        if handler is not None:
            return await _call(handler, payload, message)
        return await self._post(payload, message)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _post(self, payload: object, message: Message) -> Outcome:
        route = parse(message.queue_name).route
        url = f"{base_url(self._settings)}/.well-known/workflow/v1/{route}"
        is_cbor = self._settings.content_type == CBOR
        headers = {
            name: value
            for name, value in (message.headers or {}).items()
            if name.lower() not in RESERVED_HEADERS
        }
        headers |= {
            "content-type": self._settings.content_type,
            NAME_HEADER: message.queue_name,
            ID_HEADER: message.message_id,
            ATTEMPT_HEADER: str(message.attempt),
        }
        encoded = {name.encode(): value.encode() for name, value in headers.items()}
        try:
            response = await self._http().post(
                url, content=message.payload if is_cbor else to_json(payload), headers=encoded
            )
        except _NOT_THERE as error:
            shown = without_credentials(url)
            logger.error("The application at %s cannot be reached: %s", shown, error)
            return Unreachable(message=f"{type(error).__name__}: {shown} cannot be reached")
        except httpx.InvalidURL as error:
            return Failed(message=f"The callback URL is invalid: {error}")
        except httpx.HTTPError as error:
            return Failed(message=f"{type(error).__name__}: {error}")
        return outcome_of(response)

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            total = self._settings.http_timeout_s
            self._client = httpx.AsyncClient(
                follow_redirects=False,
                trust_env=False,
                timeout=httpx.Timeout(total, connect=min(_CONNECT_TIMEOUT_S, total or math.inf)),
                limits=httpx.Limits(
                    max_connections=None, max_keepalive_connections=self._settings.concurrency
                ),
            )
        return self._client


def base_url(settings: Settings) -> str:
    """Where callbacks go: option, ``WORKFLOW_SERVICE_URL``, ``http://localhost:{PORT or 3000}``."""
    url = settings.base_url or os.environ.get(_SERVICE_URL)
    return (url or f"http://localhost:{os.environ.get('PORT') or 3000}").rstrip("/")


def outcome_of(response: httpx.Response) -> Outcome:
    """What a callback's response means (spec 4.11)."""
    status = response.status_code
    if response.is_success or status == _UNAVAILABLE:
        again = _again(response)
        if again is not None:
            return again
        if response.is_success:
            return Done()
    retry_after = None
    if status in (_TOO_MANY, _UNAVAILABLE):
        retry_after = _seconds(response.headers.get("retry-after"))
    return Failed(
        message=f"HTTP {status}: {response.text[:500]}",
        status=status,
        retry_after_seconds=retry_after,
    )


async def _call(handler: QueueHandler, payload: object, message: Message) -> Outcome:
    try:
        result = await handler(
            payload,
            attempt=message.attempt,
            queue_name=message.queue_name,
            message_id=message.message_id,
        )
    except (Exception, SystemExit) as error:
        if (outage := outage_in(error)) is not None:
            logger.warning("The database failed under message %s: %s", message.message_id, outage)
            return Unreachable(message=f"{type(outage).__name__}: {outage}")
        # A handler that calls exit() must not take the worker with it. The message of somebody
        # else's error may quote a payload, so only its first line is kept and logged.
        text = summary_of(error)
        ids = {"message_id": message.message_id, "run_id": message.run_id}
        logger.warning("Message %s failed: %s", message.message_id, text, extra=ids)
        logger.debug("Message %s failed", message.message_id, exc_info=True, extra=ids)
        return Failed(
            message=text, retry_after_seconds=_seconds(getattr(error, "retry_after", None))
        )
    return Done() if result is None else again_of(result)


def _again(response: httpx.Response) -> Again | None:
    try:
        body: object = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    if not isinstance(body, Mapping):
        return None
    reply = cast("Mapping[str, Any]", body)
    delay = reply.get("timeoutSeconds")
    if isinstance(delay, bool) or not isinstance(delay, int | float):
        return None
    if not math.isfinite(delay) or delay < 0:
        return None
    key = reply.get("idempotencyKey")
    return Again(delay_seconds=delay, idempotency_key=key if isinstance(key, str) and key else None)


def _seconds(value: object) -> float | None:
    try:
        seconds = float(cast("Any", value))
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
