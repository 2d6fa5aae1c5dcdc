"""Live reads of a stream: page, wait, page, until it is closed (spec 5.3, 5.5)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from ..backend import Backend, Subscription
from ..clock import Clock
from ..core.chunks import PAGE_BYTES, PAGE_CHUNKS, start_of
from ..core.entities import Chunk, StreamInfo
from ..errors import WorldClosedError
from ..patience import patiently

POLL_FIRST_S: Final = 0.025
POLL_MAX_S: Final = 0.25


class Readers:
    """The live readers of one World; closing it ends each of them with an error."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self._closed = False
        self._open: dict[Subscription, None] = {}

    def close(self) -> None:
        """Make every open reader raise WorldClosedError at its next step."""
        self._closed = True
        for subscription in tuple(self._open):
            subscription.close()

    async def read(
        self, run_id: str, name: str, start_index: int | None
    ) -> AsyncGenerator[bytes, None]:
        """See ``Streams.get``. Holds at most one page."""
        self._check_open()
        await self._backend.open()
        subscription = self._backend.notifier.subscribe(f"stream:{run_id}:{name}")
        self._open[subscription] = None
        try:
            info = None
            if start_index is not None and start_index < 0:
                info = await self._retrying_info(run_id, name)
            index, pause = start_of(start_index, info), POLL_FIRST_S
            while True:
                chunks, info = await self._retrying_page(run_id, name, index)
                for chunk in chunks:
                    if chunk.data:
                        yield chunk.data
                    index = chunk.index + 1
                if index <= info.tail_index:
                    continue
                if info.done:
                    return
                self._check_open()
                # A notification may be lost, so the poll is the floor; it slows down while idle.
                woken = await subscription.wait(pause)
                self._check_open()
                pause = POLL_FIRST_S if chunks or woken else min(pause * 1.5, POLL_MAX_S)
        finally:
            self._open.pop(subscription, None)
            subscription.close()

    def _check_open(self) -> None:
        if self._closed:
            raise WorldClosedError("This World was closed while a stream was being read")

    async def _retrying_info(self, run_id: str, name: str) -> StreamInfo:
        _, info = await self._retrying_page(run_id, name, None)
        return info

    async def _retrying_page(
        self, run_id: str, name: str, start: int | None
    ) -> tuple[Sequence[Chunk], StreamInfo]:
        """A page, or only the info when ``start`` is None; a short outage is ridden out."""
        chunks = self._backend.chunks

        async def read() -> tuple[Sequence[Chunk], StreamInfo]:
            self._check_open()
            if start is None:
                return (), await chunks.info(run_id, name)
            return await chunks.page(
                run_id, name, start=start, limit=PAGE_CHUNKS, max_bytes=PAGE_BYTES
            )

        return await patiently(read, self._clock)
