"""Streams: chunks with dense indices, the last of which may say that there are no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..backend import Lease
from ..core.entities import Chunk, StreamInfo
from ..errors import StreamClosedError
from ..signals import stream_topic
from . import senders
from .client import Tables
from .database import Database
from .documents import CHUNKS, Document, begun_as, chunk_key, chunk_of, index_of
from .transaction import Transaction


class MongoChunks:
    """Satisfies ``backend.ChunkStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(
        self, run_id: str, name: str, chunks: Sequence[bytes], *, sender: Lease | None = None
    ) -> int:
        for chunk in chunks:
            self._database.check_chunk("The chunk", chunk)

        def operation(transaction: Transaction) -> int:
            first, closed = self._end(transaction, run_id, name, sender)
            if closed:
                raise StreamClosedError(run_id, name)
            for index, chunk in enumerate(chunks, first):
                self._insert(transaction, run_id, name, index, data=bytes(chunk))
            if not chunks and first == 0:
                return first
            transaction.topics.append(stream_topic(run_id, name))
            return first

        return await self._database.write(operation, ahead=senders.ahead_of(sender))

    async def close(self, run_id: str, name: str, *, sender: Lease | None = None) -> None:
        def operation(transaction: Transaction) -> None:
            index, closed = self._end(transaction, run_id, name, sender)
            if not closed:
                self._insert(transaction, run_id, name, index, is_eof=True)
                transaction.topics.append(stream_topic(run_id, name))

        await self._database.write(operation, ahead=senders.ahead_of(sender))

    async def page(
        self, run_id: str, name: str, *, start: int, limit: int, max_bytes: int | None
    ) -> tuple[Sequence[Chunk], StreamInfo]:
        def look(tables: Tables) -> tuple[Sequence[Chunk], StreamInfo]:
            info = _info(_last(tables, run_id, name))
            about = {"run_id": run_id, "stream_name": name}
            end = min(start + limit, info.tail_index + 1)
            found: list[Chunk] = []
            size = 0
            place = {"chunk_index": {"$gte": start, "$lt": end}, "is_eof": {"$exists": False}}
            if start >= end:
                return found, info
            cursor = tables[CHUNKS].find({**about, **place})
            for one in cursor.sort([("chunk_index", 1)]):
                chunk = chunk_of(one)
                size += len(chunk.data)
                if found and max_bytes is not None and size > max_bytes:
                    break
                found.append(chunk)
            return found, info

        return await self._database.read(look)

    async def info(self, run_id: str, name: str) -> StreamInfo:
        return await self._database.read(lambda tables: _info(_last(tables, run_id, name)))

    async def names(self, run_id: str) -> Sequence[str]:
        def look(tables: Tables) -> list[str]:
            about = {"run_id": run_id, "chunk_index": 0}
            found = tables[CHUNKS].find(about, {"stream_name": 1, "created_at": 1})
            return [name for _, name in sorted(map(begun_as, found))]

        return await self._database.read(look)

    def _end(
        self, transaction: Transaction, run_id: str, name: str, sender: Lease | None
    ) -> tuple[int, bool]:
        """The next index, and whether the stream is closed."""
        senders.must_hold(transaction, sender)
        about = {"run_id": run_id, "stream_name": name}
        found = [
            one
            for one in transaction.find(CHUNKS, about, order=(("chunk_index", -1),), limit=1)
            if about.items() <= one.items()
        ]
        last = max(found, key=index_of, default=None)
        if last is None:
            return 0, False
        return index_of(last) + 1, bool(last.get("is_eof"))

    def _insert(
        self, transaction: Transaction, run_id: str, name: str, index: int, **values: Any
    ) -> None:
        transaction.insert(
            CHUNKS,
            {
                "_id": chunk_key(run_id, name, index),
                "run_id": run_id,
                "stream_name": name,
                "chunk_index": index,
                "created_at": self._database.clock.now(),
                **values,
            },
        )


def _last(tables: Tables, run_id: str, name: str) -> Document | None:
    return tables[CHUNKS].find_one(
        {"run_id": run_id, "stream_name": name},
        {"chunk_index": 1, "is_eof": 1},
        sort=[("chunk_index", -1)],
    )


def _info(last: Mapping[str, Any] | None) -> StreamInfo:
    if last is None:
        return StreamInfo(tail_index=-1, done=False)
    done = bool(last.get("is_eof"))
    return StreamInfo(tail_index=index_of(last) - done, done=done)
