"""The trivial server that callbacks go to: answers every request with 200 and ``{}``.

Says its port; then, when the job's number of POST requests is answered, the time of the last.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from .beside import heard, serve, tell

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


async def work(job: dict[str, Any]) -> None:
    left: int = job["expect"]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(head))
                writer.write(_ANSWER)
                if head.startswith(b"POST "):
                    left -= 1
                    if left == 0:
                        tell(repr(time.perf_counter()))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has hung up
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    tell(str(server.sockets[0].getsockname()[1]))
    while await heard() is not None:
        pass
    server.close()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


if __name__ == "__main__":
    serve(work)
