"""A loopback TCP proxy that makes each round trip longer.

Unlike the tests' own, it delays what is sent in two parts once, not twice."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class DelayingProxy:
    """A context manager: it listens on ``port`` within it, on a thread of its own.

    Half of the seconds are added on the way there, half on the way back.
    """

    def __init__(self, server_port: int, seconds: float) -> None:
        self._server_port, self._seconds = server_port, seconds
        self.port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> DelayingProxy:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """What arrives goes on later, in order; the next may arrive meanwhile."""
        loop, late = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

        async def read() -> None:
            data = b"x"
            while data:
                try:
                    data = await source.read(1 << 16)
                except OSError:
                    data = b""
                late.put_nowait((loop.time() + self._seconds / 2, data))

        reading = asyncio.create_task(read())
        with contextlib.suppress(OSError):
            while True:
                due, data = await late.get()
                if (left := due - loop.time()) > 0:
                    await asyncio.sleep(left)
                if not data:
                    break
                sink.write(data)
                await sink.drain()
        reading.cancel()
        sink.close()
