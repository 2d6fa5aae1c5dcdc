"""``world.streams``: append-only lists of bytes, read live or as snapshots (spec 5)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from ..core.chunks import DEFAULT_PAGE_LIMIT, decode_chunk_cursor, encode_chunk_cursor
from ..core.entities import ChunksPage, StreamInfo
from ..core.paging import clamp_limit
from ..errors import InvalidRequestError, PayloadTooLargeError
from ..streams.reader import Readers
from .context import Context, check_id


class Streams:
    def __init__(self, context: Context, readers: Readers) -> None:
        self._context = context
        self._readers = readers

    async def write(self, run_id: str, name: str, chunk: bytes | str) -> None:
        """Append one chunk; text is stored as UTF-8. Durable when it returns.

        Raises: StreamClosedError (409), PayloadTooLargeError, InvalidRequestError.
        """
        await self.write_multi(run_id, name, [chunk])

    async def write_multi(self, run_id: str, name: str, chunks: Sequence[bytes | str]) -> None:
        """Append several chunks in order, all or nothing. An empty list does nothing at all."""
        _check(run_id, name)
        rows = [_bytes(chunk) for chunk in chunks]
        if not rows:
            return
        backend = await self._context.opened()
        limit = backend.capabilities.max_chunk_bytes
        if limit is not None and (largest := max(map(len, rows))) > limit:
            raise PayloadTooLargeError(
                f"A chunk of {largest} bytes is over the {limit} bytes that "
                f"{backend.capabilities.name} stores: split it"
            )
        await backend.chunks.append(run_id, name, rows, sender=self._context.sender)

    async def close(self, run_id: str, name: str) -> None:
        """Close the stream, creating it if needed; closing again is a no-op."""
        _check(run_id, name)
        backend = await self._context.opened()
        await backend.chunks.close(run_id, name, sender=self._context.sender)

    def get(
        self, run_id: str, name: str, start_index: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Read live: what is there, then what comes, until the stream is closed (spec 5.3).

        Args:
            start_index: skip so many chunks; negative counts back from the end as it is when
                the read begins.

        Yields: each non-empty chunk once, in order. Ends only because the stream was closed.
        Raises: WorldClosedError when the World closes; BackendError after five failed retries.
        """
        _check(run_id, name)
        if start_index is not None and type(start_index) is not int:
            raise InvalidRequestError(
                f"start_index must be a whole number, not {start_index!r:.60}"
            )
        return self._readers.read(run_id, name, start_index)

    async def get_chunks(
        self,
        run_id: str,
        name: str,
        *,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ChunksPage:
        """One page of what is there now, empty chunks included (spec 5.6)."""
        _check(run_id, name)
        size = clamp_limit(limit, DEFAULT_PAGE_LIMIT)
        start = decode_chunk_cursor(cursor)
        backend = await self._context.opened()
        chunks, info = await backend.chunks.page(
            run_id, name, start=start, limit=size, max_bytes=None
        )
        next_index = chunks[-1].index + 1 if chunks else start
        more = next_index <= info.tail_index
        return ChunksPage(
            data=tuple(chunks),
            cursor=encode_chunk_cursor(next_index) if more else None,
            has_more=more,
            done=info.done and not more,
        )

    async def get_info(self, run_id: str, name: str) -> StreamInfo:
        """Tail index and closed flag, without reading payloads."""
        _check(run_id, name)
        backend = await self._context.opened()
        return await backend.chunks.info(run_id, name)

    async def list(self, run_id: str) -> Sequence[str]:
        """The names this run has written or closed, by first write, then name."""
        check_id(run_id, "run_id")
        backend = await self._context.opened()
        return await backend.chunks.names(run_id)


def _check(run_id: str, name: str) -> None:
    check_id(run_id, "run_id")
    check_id(name, "stream name")


def _bytes(chunk: bytes | str) -> bytes:
    if isinstance(chunk, str):
        try:
            return chunk.encode()
        except UnicodeEncodeError:
            raise InvalidRequestError("A chunk of text has a lone surrogate") from None
    if isinstance(chunk, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
        return bytes(chunk)
    raise InvalidRequestError(f"A chunk is bytes or text, not {type(chunk).__name__}")
