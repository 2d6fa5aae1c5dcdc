"""A small HTTP server on a free loopback port, and requests for handlers of callbacks."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from ...http import HTTPResponse
from .queue_helpers import PATIENCE_S


@dataclass(frozen=True, slots=True)
class Request:
    """A request as ``HTTPRequest``; header names as they arrived."""

    method: str = "POST"
    url: str = "/.well-known/workflow/v1/flow"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """The body in two parts, as a server may give it."""
        middle = len(self.body) // 2
        for part in (self.body[:middle], self.body[middle:]):
            if part:
                yield part

    def header(self, name: str) -> str | None:
        return {key.lower(): value for key, value in self.headers.items()}.get(name)


Respond: TypeAlias = Callable[[Request], Awaitable[HTTPResponse]]


class Endpoint:
    """Answers requests from a script, in the end with 200, and remembers them.

    An entry is a response, or a function that makes one of the request.
    """

    def __init__(self, *script: HTTPResponse | Respond) -> None:
        self.requests: list[Request] = []
        self.port = 0
        self._script = deque(script)
        self._came = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def called(self, times: int = 1) -> Request:
        """Wait until so many requests came. Returns: the last of them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.requests) < times:
                self._came.clear()
                await self._came.wait()
        return self.requests[times - 1]

    async def respond(self, request: Request) -> HTTPResponse:
        self.requests.append(request)
        self._came.set()
        answer = self._script.popleft() if self._script else HTTPResponse(200, b"")
        return answer if isinstance(answer, HTTPResponse) else await answer(request)


@asynccontextmanager
async def serving(endpoint: Endpoint) -> AsyncGenerator[Endpoint]:
    """The endpoint on a port of its own while the block runs."""
    tasks = set[asyncio.Task[None]]()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(endpoint, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _serve(
    endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip("\r\n").split("\r\n")
            method, url, _ = first.split(" ", 2)
            headers = {
                name: value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            lowered = {name.lower(): value for name, value in headers.items()}
            body = await reader.readexactly(int(lowered.get("content-length", "0")))
            response = await endpoint.respond(Request(method, url, headers, body))
            fields = {**response.headers, "content-length": str(len(response.body))}
            head = f"HTTP/1.1 {response.status} -\r\n" + "".join(
                f"{name}: {value}\r\n" for name, value in fields.items()
            )
            writer.write(head.encode("latin-1") + b"\r\n" + response.body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the caller hung up
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
