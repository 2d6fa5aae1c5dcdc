"""Kept-alive HTTP connections of a worker, each for one request at a time.

The pool of an HTTP client looks through all its requests and connections, twice per request: at
20 in flight that is most of the work. Here a free connection is taken from the end of a queue.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import httpcore
import httpx

CONNECT_TIMEOUT_S: Final = 10.0
# Below the 5 s after which common servers hang up, so that mostly we are the first to do so.
KEEP_ALIVE_S: Final = 4.0
# A hang-up that crossed our request on the way shows within a round trip. When it comes later,
# the application was at work on the request.
CROSSING_S: Final = 1.0
_MOST_BYTES: Final = 1 << 20
# A host that vanishes hangs up on nobody, and an answer may take any time: the system asks it for
# signs of life, and breaks the connection 15 + 4 x 5 s after the last one.
_KEEP_ALIVE: Final = (
    ("TCP_KEEPIDLE", 15),
    ("TCP_KEEPALIVE", 15),  # the same on macOS
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 4),
)
_SOCKET_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in _KEEP_ALIVE
        if hasattr(socket, name)
    ),
)

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]


class NotConnectedError(Exception):
    """No connection could be opened: the application cannot have seen the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Status, headers as they came, and the body, or the beginning of a large one."""

    status: int
    headers: Headers
    body: bytes


class Connections:
    """Opens connections when they are needed and keeps up to ``limit`` idle ones.

    ``total_s`` bounds a whole request, connecting included; None: no bound.
    """

    def __init__(self, *, limit: int, total_s: float | None) -> None:
        self._limit, self._total_s = limit, total_s
        connect_s = CONNECT_TIMEOUT_S if total_s is None else min(CONNECT_TIMEOUT_S, total_s)
        self._timeout = {"connect": connect_s}
        self._idle: deque[httpcore.AsyncHTTPConnection] = deque()
        self._tls: ssl.SSLContext | None = None

    async def post(self, url: httpcore.URL, headers: Headers, body: bytes) -> Response:
        """Send one request; redirects are not followed, proxies not used.

        A server may hang up an idle connection while a request is on its way there. That looks
        like an application that died of the request at once. Delivery is at-least-once, so the
        request goes out once more, on a new connection, and what comes of that counts. When no
        new connection can be had, the first request's error counts: it may have been seen.

        Raises: NotConnectedError; TimeoutError when ``total_s`` is over; an error of httpcore
            when the connection breaks, or a header or the answer is no HTTP.
        """
        progress = _Progress()
        try:
            async with asyncio.timeout(self._total_s):
                return await self._post(url, headers, body, progress)
        except TimeoutError as error:
            if progress.connected:
                raise
            raise NotConnectedError("ConnectTimeout") from error

    async def close(self) -> None:
        """Close the idle connections. None may be in use."""
        while self._idle:
            await self._idle.pop().aclose()

    async def _post(
        self, url: httpcore.URL, headers: Headers, body: bytes, progress: _Progress
    ) -> Response:
        def request(**extensions: object) -> httpcore.Request:
            extensions["timeout"] = self._timeout
            return httpcore.Request(
                "POST", url, headers=headers, content=body, extensions=extensions
            )

        hang_up: Exception | None = None
        if (kept := await self._kept(url.origin)) is not None:
            progress.connected = True
            began = time.monotonic()
            try:
                answer = await _sent(kept, request(), progress)
            except (httpcore.ReadError, httpcore.RemoteProtocolError) as error:
                if not _is_hang_up(error) or time.monotonic() - began > CROSSING_S:
                    raise
                hang_up = error
            else:
                return await self._read(kept, answer)
        new = self._new(url.origin)
        try:
            answer = await _sent(new, request(trace=progress), progress)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            if hang_up is not None:
                raise hang_up from error
            raise NotConnectedError(type(error).__name__) from error
        return await self._read(new, answer)

    async def _kept(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection | None:
        """The connection used last, if it is good; those idle for too long are closed."""
        while self._idle and self._idle[0].has_expired():
            await self._idle.popleft().aclose()
        while self._idle:
            connection = self._idle.pop()
            if connection.can_handle_request(origin) and not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _new(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        if origin.scheme == b"https" and self._tls is None:
            self._tls = httpx.create_ssl_context(trust_env=False)
        return httpcore.AsyncHTTPConnection(
            origin,
            ssl_context=self._tls,
            keepalive_expiry=KEEP_ALIVE_S,
            socket_options=_SOCKET_OPTIONS,
        )

    async def _read(
        self, connection: httpcore.AsyncHTTPConnection, answer: httpcore.Response
    ) -> Response:
        body = bytearray()
        try:
            # To its end, for the application may be at work until then.
            async for part in answer.aiter_stream():
                body += part[: _MOST_BYTES - len(body)]
            await answer.aclose()
        except BaseException:
            await connection.aclose()
            raise
        if connection.is_idle() and len(self._idle) < self._limit:
            self._idle.append(connection)
        else:
            await connection.aclose()
        return Response(status=answer.status, headers=answer.headers, body=bytes(body))


class _Progress:
    """Follows a request onto its new connection, as the ``trace`` extension of httpcore."""

    def __init__(self) -> None:
        self.connected = False
        self._socket: httpcore.AsyncNetworkStream | None = None

    async def __call__(self, event: str, details: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._socket = details["return_value"]
        elif event == "http11.send_request_headers.started":
            self.connected = True

    async def close(self) -> None:
        """A connection that was cancelled amid its TLS handshake forgets its socket."""
        if self._socket is not None:
            await self._socket.aclose()


async def _sent(
    connection: httpcore.AsyncHTTPConnection, request: httpcore.Request, progress: _Progress
) -> httpcore.Response:
    """Send the request and wait for the head of its answer."""
    try:
        return await connection.handle_async_request(request)
    except BaseException:
        await connection.aclose()
        await progress.close()
        raise


def _is_hang_up(error: Exception) -> bool:
    """Whether the connection ended; an answer that cannot be read has a cause of its own."""
    return isinstance(error, httpcore.ReadError) or error.__cause__ is None
