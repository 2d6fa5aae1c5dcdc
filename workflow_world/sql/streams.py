"""The chunk store on SQL: indices are handed out under the write lock (spec 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import bindparam, func, insert, select, text

from ..backend import Lease
from ..core.entities import Chunk, StreamInfo
from ..core.paging import fitting
from ..core.values import to_ms
from ..errors import StreamClosedError
from ..ids import new_id
from ..signals import stream_topic
from .compiled import Read, Row, Session, Statement, insert_or_nothing
from .contention import MAX_LOOKS, contended
from .damage import checked, corrupt
from .holding import Holding
from .lane import Locks
from .tables import Tables

if TYPE_CHECKING:
    from .database import Database


_ChunksAndInfo: TypeAlias = tuple[Sequence[Chunk], StreamInfo]
_GLANCED_CHUNKS: Final = 8
_GLANCED_BYTES: Final = 1 << 16


class ChunkStatements:
    def __init__(self, tables: Tables) -> None:
        self.t = tables

    @property
    def _c(self) -> Any:
        return self.t.chunks.c

    def _of_stream(self) -> tuple[Any, ...]:
        return (
            self._c.run_id == bindparam("run_id"),
            self._c.stream_name == bindparam("stream_name"),
        )

    @cached_property
    def tail(self) -> Statement:
        """The last row: its index, and whether it is the close."""
        return Statement(
            "read stream tail",
            select(self._c.chunk_index, self._c.is_eof)
            .where(*self._of_stream())
            .order_by(self._c.chunk_index.desc())
            .limit(1),
        )

    @cached_property
    def lock(self) -> Statement:
        """The first row stands for its stream: who appends waits here for who was before."""
        return Statement(
            "lock stream",
            select(self._c.chunk_index)
            .where(*self._of_stream(), text("chunk_index = 0"))
            .with_for_update(),
        )

    @cached_property
    def insert(self) -> Statement:
        chunks = self.t.chunks
        return Statement("insert chunk", insert(chunks), postgresql=insert_or_nothing(chunks))

    @cached_property
    def by_chunk_id(self) -> Statement:
        return Statement(
            "find chunk",
            select(self._c.chunk_index).where(
                *self._of_stream(),
                self._c.chunk_index == bindparam("chunk_index"),
                self._c.chunk_id == bindparam("chunk_id"),
            ),
        )

    @cached_property
    def sizes(self) -> Statement:
        return Statement(
            "read chunk sizes",
            select(self._c.chunk_index, func.length(self._c.data))
            .where(
                *self._of_stream(),
                self._c.chunk_index >= bindparam("start"),
                text("NOT is_eof"),
            )
            .order_by(self._c.chunk_index)
            .limit(bindparam("row_limit")),
        )

    @cached_property
    def page(self) -> Statement:
        return Statement(
            "read chunks",
            select(self._c.chunk_index, self._c.data)
            .where(
                *self._of_stream(),
                self._c.chunk_index >= bindparam("start"),
                text("NOT is_eof"),
            )
            .order_by(self._c.chunk_index)
            .limit(bindparam("row_limit")),
        )

    @cached_property
    def names(self) -> Statement:
        return Statement(
            "list streams",
            select(self._c.stream_name)
            .where(self._c.run_id == bindparam("run_id"), text("chunk_index = 0"))
            .order_by(self._c.created_at, self._c.stream_name),
        )


class SqlChunkStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = ChunkStatements(database.tables)
        self._holding = Holding(database.tables)

    async def append(
        self, run_id: str, name: str, chunks: Sequence[bytes], *, sender: Lease | None = None
    ) -> int:
        def append(session: Session) -> int:
            self._holding.check(session, sender)
            return self._add(session, run_id, name, chunks)

        first = await self._database.write(append, locks=self._about(run_id, name, sender))
        self._database.hub.notify(stream_topic(run_id, name))
        return first

    async def close(self, run_id: str, name: str, *, sender: Lease | None = None) -> None:
        def close(session: Session) -> None:
            self._holding.check(session, sender)
            self._add(session, run_id, name, None)

        await self._database.write(close, locks=self._about(run_id, name, sender))
        self._database.hub.notify(stream_topic(run_id, name))

    def _add(self, session: Session, run_id: str, name: str, chunks: Sequence[bytes] | None) -> int:
        """Append the chunks, or the close. Returns: the index of the first.

        Two transactions may both begin a stream, for there is no row to lock yet: then one has
        written nothing, and it waited for the other's commit, so its next look sees the row.
        """
        for _ in range(MAX_LOOKS):
            if self._database.concurrent:
                session.one(self._statements.lock, run_id=run_id, stream_name=name)
            info = self._info(session, run_id, name)
            first = info.tail_index + 1
            if chunks is None:
                if info.done or self._insert(session, run_id, name, first, b"", is_eof=True):
                    break
                continue
            if info.done:
                raise StreamClosedError(run_id, name)
            if not chunks or self._insert(session, run_id, name, first, chunks[0], is_eof=False):
                for index, data in enumerate(chunks[1:], first + 1):
                    self._insert(session, run_id, name, index, data, is_eof=False)
                break
        else:
            raise contended(f"stream {name!r}")
        session.announce(stream_topic(run_id, name))
        return first

    async def page(
        self, run_id: str, name: str, *, start: int, limit: int, max_bytes: int | None
    ) -> tuple[Sequence[Chunk], StreamInfo]:
        def page(session: Session, at_most: int | None = None) -> _ChunksAndInfo | None:
            info = self._info(session, run_id, name)
            count = min(limit, info.tail_index - start + 1)
            if count <= 0:
                return (), info
            if at_most is not None and count > at_most:
                return None
            place = {"run_id": run_id, "stream_name": name, "start": start}
            if max_bytes is not None or at_most is not None:
                sizes = session.all(self._statements.sizes, row_limit=count, **place)
                if at_most is not None and sum(size or 0 for _, size in sizes) > _GLANCED_BYTES:
                    return None
                if max_bytes is not None:
                    count = fitting([size or 0 for _, size in sizes], max_bytes)
            rows = session.all(self._statements.page, row_limit=count, **place)
            return [_chunk_of(run_id, name, row) for row in rows], info

        found: _ChunksAndInfo | None = None
        if self._database.is_near:
            # What a live reader sees most: the next chunk, or none. The tail is read first and
            # nothing behind it, so this needs no transaction to be of one instant.
            found = await self._database.glance(lambda session: page(session, _GLANCED_CHUNKS))
        if found is None:
            found = await self._database.read(page)
        assert found is not None
        return found

    async def info(self, run_id: str, name: str) -> StreamInfo:
        return await self._database.read(lambda session: self._info(session, run_id, name))

    async def names(self, run_id: str) -> Sequence[str]:
        rows = await self._database.read(
            lambda session: session.all(self._statements.names, run_id=run_id)
        )
        for row in rows:
            checked(f"A row of stream_chunks with run_id {run_id!r}", row, str)
        return [row[0] for row in rows]

    def _about(self, run_id: str, name: str, sender: Lease | None) -> Locks:
        tail: Read = (self._statements.tail, {"run_id": run_id, "stream_name": name})
        return Locks(
            key=run_id,
            stream=name,
            # Where streams are locked one by one, the tail is only known behind the lock.
            ahead=None if self._database.concurrent else lambda _: [tail],
            lease=self._holding.kept(None if sender is None else sender.message_id),
        )

    def _info(self, session: Session, run_id: str, name: str) -> StreamInfo:
        row = session.one(self._statements.tail, run_id=run_id, stream_name=name)
        if row is None:
            return StreamInfo(tail_index=-1, done=False)
        checked(_where(run_id, name), row, int, bool)
        return StreamInfo(tail_index=row[0] - bool(row[1]), done=bool(row[1]))

    def _insert(
        self, session: Session, run_id: str, name: str, index: int, data: bytes, *, is_eof: bool
    ) -> bool:
        """Returns: False when another transaction has taken the index."""
        chunk_id = new_id("chnk")
        stored = session.run(
            self._statements.insert,
            run_id=run_id,
            stream_name=name,
            chunk_index=index,
            chunk_id=chunk_id,
            data=data,
            is_eof=is_eof,
            created_at=to_ms(self._database.clock.now()),
        )
        if not stored:
            return False
        about = {"run_id": run_id, "stream_name": name, "chunk_index": index, "chunk_id": chunk_id}
        session.prove(self._statements.by_chunk_id, about)
        return True


def _chunk_of(run_id: str, name: str, row: Row) -> Chunk:
    where = f"{_where(run_id, name)}, chunk_index {row[0]!r}"
    checked(where, row, int, bytes)
    if row[1] is None:
        raise corrupt(where, "bytes was expected")
    return Chunk(index=row[0], data=row[1])


def _where(run_id: str, name: str) -> str:
    return f"The row of stream_chunks with run_id {run_id!r}, stream_name {name!r}"
