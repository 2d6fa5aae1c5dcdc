"""An application for callbacks that behaves as told, byte for byte, and counts connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

PATIENCE_S = 20.0
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@dataclass(eq=False)
class Call:
    """One request: header lines, body, and the connection it came on (counted from 1)."""

    headers: dict[str, str]
    body: bytes
    connection: int
    writer: asyncio.StreamWriter


Behave: TypeAlias = Callable[[Call], Awaitable[None]]


async def answer(call: Call) -> None:
    """200, and stay connected."""
    call.writer.write(OK)


async def answer_and_leave(call: Call) -> None:
    """200, then hang up as if the connection had been idle for too long."""
    call.writer.write(OK)
    call.writer.close()


async def hang_up(call: Call) -> None:
    """No answer at all."""
    call.writer.close()


def saying(data: bytes) -> Behave:
    async def say(call: Call) -> None:
        call.writer.write(data)

    return say


@dataclass
class Application:
    """Does what its script says for each request, in the end ``answer``."""

    script: deque[Behave] = field(default_factory=deque[Behave])
    calls: list[Call] = field(default_factory=list[Call])
    accepted: int = 0
    open: int = 0
    port: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until(self, true: Callable[[Application], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(lambda: true(self))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[asyncio.Server]:
        """Listening while the block runs; again on the same port the next time."""
        tasks = set[asyncio.Task[None]]()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.accepted += 1
            self.open += 1
            task = asyncio.create_task(self._serve(reader, writer, self.accepted))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(
            connected, "127.0.0.1", self.port, family=socket.AF_INET
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield server
        finally:
            server.close()
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = [line.partition(":") for line in head.strip().split("\r\n")[1:]]
                headers = {name.lower(): value.strip() for name, _, value in lines}
                body = await reader.readexactly(int(headers["content-length"]))
                call = Call(headers, body, connection, writer)
                self.calls.append(call)
                await self._tell()
                await (self.script.popleft() if self.script else answer)(call)
                if not writer.is_closing():
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller hung up
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.open -= 1
            await self._tell()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()
