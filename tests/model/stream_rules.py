"""Rules about streams, and writes that die around their commit."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from workflow_world import faults
from workflow_world.core.chunks import encode_chunk_cursor
from workflow_world.core.events import NewEvent

from .machine import RUNS, STEPS, STREAM_RUNS, STREAMS, Machine, handles
from .sides import Ask

stream_runs = st.sampled_from(STREAM_RUNS)
names = st.sampled_from(STREAMS)
chunks = st.sampled_from([b"", b"one", b"\x00\xff", b"x" * 5000])


def event(event_type: str, correlation_id: str | None = None, **data: Any) -> Ask:
    new = NewEvent(event_type=event_type, correlation_id=correlation_id, event_data=data or None)
    return lambda side, world: world.events.create(RUNS[0], new)


WRITES: Final[dict[str, Ask]] = {
    "attributes": event(
        "attr_set", changes=[{"key": "died", "value": "1"}], writer={"type": "step"}
    ),
    "step": event("step_created", STEPS[1], stepName="add", input=b"in"),
    "retry": event("step_started", STEPS[0]),
    "end": event("run_completed", output=b"out"),
    "stream": lambda side, world: world.streams.write_multi(RUNS[0], "out", [b"a", b"b"]),
    "close": lambda side, world: world.streams.close(RUNS[0], "out"),
}


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

    @rule(
        handle=handles,
        write=st.sampled_from(sorted(WRITES)),
        point=st.sampled_from(["before commit", "after commit"]),
    )
    def write_that_dies(self, handle: int, write: str, point: str) -> None:
        """The process that asks gets no answer. Before the commit nothing of it may be seen
        afterwards; behind it all of it must be, so then the model is asked too."""

        def die(reached: str) -> None:
            if reached == point:
                raise Died(reached)

        async def ask() -> None:
            world = self.system.worlds[handle]
            await world.backend.open()
            with faults.armed(die), contextlib.suppress(Died):
                await self.system.ask(handle, WRITES[write])

        self.runner.run(ask())
        if point == "after commit":
            self.runner.run(self.model.ask(handle, WRITES[write]))


class Died(RuntimeError):
    """Raised at a fault point in place of a crash."""
