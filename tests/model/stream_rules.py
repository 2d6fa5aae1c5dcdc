"""Rules about streams, and writes that die around their commit."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from workflow_world import faults
from workflow_world.core.chunks import encode_chunk_cursor
from workflow_world.errors import WorldError

from .machine import STREAM_RUNS, STREAMS, Machine, handles

stream_runs = st.sampled_from(STREAM_RUNS)
names = st.sampled_from(STREAMS)
chunks = st.sampled_from([b"", b"one", b"\x00\xff", b"x" * 5000])


class StreamRules(Machine):
    @rule(handle=handles, run_id=stream_runs, name=names, rows=st.lists(chunks, max_size=3))
    def write(self, handle: int, run_id: str, name: str, rows: list[bytes]) -> None:
        if len(rows) == 1:
            self.both(handle, lambda side, world: world.streams.write(run_id, name, rows[0]))
        else:
            self.both(handle, lambda side, world: world.streams.write_multi(run_id, name, rows))

    @rule(handle=handles, run_id=stream_runs, name=names)
    def close_stream(self, handle: int, run_id: str, name: str) -> None:
        self.both(handle, lambda side, world: world.streams.close(run_id, name))

    @rule(
        handle=handles,
        run_id=stream_runs,
        name=names,
        start=st.integers(0, 4),
        limit=st.integers(1, 2),
    )
    def read_a_page(self, handle: int, run_id: str, name: str, start: int, limit: int) -> None:
        cursor = encode_chunk_cursor(start)
        self.both(
            handle,
            lambda side, world: world.streams.get_chunks(run_id, name, limit=limit, cursor=cursor),
        )

    @rule(handle=handles, run_id=stream_runs, name=names)
    def write_that_dies_before_its_commit(self, handle: int, run_id: str, name: str) -> None:
        """The system alone is asked: nothing of it may be seen afterwards."""

        def die(point: str) -> None:
            raise Died(point)

        async def write() -> None:
            world = self.system.worlds[handle]
            await world.backend.open()
            with faults.armed(die):
                await world.streams.write_multi(run_id, name, [b"never", b"seen"])

        try:
            self.runner.run(write())
        except (Died, WorldError):
            return
        raise AssertionError("the write says that it succeeded")


class Died(RuntimeError):
    """Raised at a fault point in place of a crash."""
