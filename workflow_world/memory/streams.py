"""Streams in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..backend import Lease
from ..clock import Clock
from ..core.entities import Chunk, StreamInfo
from ..errors import StreamClosedError
from ..message_rows import must_hold
from ..signals import stream_topic
from .database import MemoryDatabase, Stream, Transaction


class MemoryChunks:
    """Satisfies ``backend.ChunkStore``."""

    def __init__(self, database: MemoryDatabase, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def append(
        self, run_id: str, name: str, chunks: Sequence[bytes], *, sender: Lease | None = None
    ) -> int:
        with self._database.transaction() as change:
            must_hold(self._database.messages, sender)
            stream = self._stream(change, run_id, name)
            if stream.closed:
                raise StreamClosedError(run_id, name)
            first = len(stream.chunks)
            for index, chunk in enumerate(chunks, first):
                change.put(stream.chunks, index, bytes(chunk))
            change.topics.append(stream_topic(run_id, name))
            return first

    async def close(self, run_id: str, name: str, *, sender: Lease | None = None) -> None:
        with self._database.transaction() as change:
            must_hold(self._database.messages, sender)
            stream = self._stream(change, run_id, name)
            if not stream.closed:
                change.put(self._database.streams, (run_id, name), replace(stream, closed=True))
                change.topics.append(stream_topic(run_id, name))

    async def page(
        self, run_id: str, name: str, *, start: int, limit: int, max_bytes: int | None
    ) -> tuple[Sequence[Chunk], StreamInfo]:
        with self._database.lock:
            stream = self._database.streams.get((run_id, name))
            if stream is None:
                return (), _info(None)
            found: list[Chunk] = []
            size = 0
            for index in range(start, min(start + limit, len(stream.chunks))):
                data = stream.chunks[index]
                size += len(data)
                if found and max_bytes is not None and size > max_bytes:
                    break
                found.append(Chunk(index=index, data=data))
            return found, _info(stream)

    async def info(self, run_id: str, name: str) -> StreamInfo:
        with self._database.lock:
            return _info(self._database.streams.get((run_id, name)))

    async def names(self, run_id: str) -> Sequence[str]:
        with self._database.lock:
            found = [
                (stream.created_at, name)
                for (owner, name), stream in self._database.streams.items()
                if owner == run_id
            ]
        return [name for _, name in sorted(found)]

    def _stream(self, change: Transaction, run_id: str, name: str) -> Stream:
        """The stream, made if it is not there yet."""
        streams, key = self._database.streams, (run_id, name)
        if key not in streams:
            change.put(streams, key, Stream(created_at=self._clock.now()))
        return streams[key]


def _info(stream: Stream | None) -> StreamInfo:
    if stream is None:
        return StreamInfo(tail_index=-1, done=False)
    return StreamInfo(tail_index=len(stream.chunks) - 1, done=stream.closed)
