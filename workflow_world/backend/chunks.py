"""Streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ..core.delivery import Lease
from ..core.entities import Chunk, StreamInfo


@runtime_checkable
class ChunkStore(Protocol):
    """Streams: append-only lists of byte chunks, by (run_id, name), without a run row.

    ``sender`` is the delivery that writes: refused with LeaseLostError once its lease is lost.
    """

    async def append(
        self, run_id: str, name: str, chunks: Sequence[bytes], *, sender: Lease | None = None
    ) -> int:
        """Append all chunks, in order, with consecutive indices: all or nothing.

        Returns: the index of the first.
        Raises: StreamClosedError, PayloadTooLargeError.
        """
        ...

    async def close(self, run_id: str, name: str, *, sender: Lease | None = None) -> None:
        """Mark the stream closed, creating it if needed; again is a no-op."""
        ...

    async def page(
        self, run_id: str, name: str, *, start: int, limit: int, max_bytes: int | None
    ) -> tuple[Sequence[Chunk], StreamInfo]:
        """Chunks from index ``start`` on and the stream's info, seen at one instant.

        At most ``limit`` chunks and about ``max_bytes``, but always at least one when there is one.
        """
        ...

    async def info(self, run_id: str, name: str) -> StreamInfo:
        """Reads no payload. Unknown stream: -1, False."""
        ...

    async def names(self, run_id: str) -> Sequence[str]:
        """Names written or closed by this run, by first write, then name."""
        ...
