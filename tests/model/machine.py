"""What every history has: two sides, one clock, one event loop, and the comparison of all rows."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from servers.engines import Engine

from workflow_world.core.entities import Message
from workflow_world.core.events import NewEvent
from workflow_world.core.fold import fold
from workflow_world.core.rules import Owner
from workflow_world.memory import MemoryBackend, MemoryDatabase
from workflow_world.testing import ManualClock
from workflow_world.testing.conformance.helpers import walk
from workflow_world.world import World

from .sides import HANDLES, Ask, Side, opener

RUNS: Final = ("wrun_1", "wrun_2", "wrun_3")
STEPS: Final = ("step_1", "step_2")
STREAM_RUNS: Final = (RUNS[0], "wrun_none")
STREAMS: Final = ("out", "log")
EVERYTHING: Final = 1000
OWNER: Final = Owner(environment="development")

TOKENS: Final = ("token a", "tökén")

run_ids = st.sampled_from([*[RUNS[0]] * 4, *RUNS[1:]])
step_ids = st.sampled_from(STEPS)
handles = st.integers(0, HANDLES - 1)
versions = st.sampled_from([5, 5, 6, 6, 7, 2, 1])
payloads = st.sampled_from([b"", b"x\x00\xff", None, "ü \U0001f600", {"a": [1, None, 2.5]}, 2**70])


def creation(payload: object) -> dict[str, object]:
    return {"deploymentId": "dpl", "workflowName": "greet", "input": payload}


class Machine(RuleBasedStateMachine):
    """Every rule does one thing on both sides and compares the answers; then all rows are."""

    engine: ClassVar[Engine]
    """Of the system under test."""
    has_replicas: ClassVar[bool] = False
    """Its handles are embedded replicas."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.runner = asyncio.Runner()
        self.stack = contextlib.ExitStack()
        self.stack.callback(self.runner.close)
        database = MemoryDatabase()
        url = self.stack.enter_context(self.engine.database())
        replicas = None
        if self.has_replicas:
            replicas = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.model = Side("model", lambda: MemoryBackend(database, clock=self.clock), self.clock)
        self.system = Side("system", opener(url, self.clock, replicas), self.clock)
        self.reader = 0
        # Deliveries by the label of their message: as the model and as the system gave them.
        self.leases: list[tuple[Message, Message]] = []

    def teardown(self) -> None:
        with self.stack:
            self.runner.run(self.model.close())
            self.runner.run(self.system.close())

    def both(self, handle: int, ask: Ask) -> tuple[Any, Any]:
        """Ask both sides, and hold the answers against each other. Returns: the raw answers."""
        model = self.runner.run(self.model.ask(handle, ask))
        system = self.runner.run(self.system.ask(handle, ask))
        expected, found = self.model.comparable(model), self.system.comparable(system)
        assert found == expected, f"system: {found}\nmodel: {expected}"
        return model, system

    def id_of_both(self, handle: int, ask: Ask) -> None:
        """Ask for something that answers with a message id, which gets a label."""

        async def labelled(side: Side, world: World) -> Any:
            message_id = await ask(side, world)
            return None if message_id is None else side.label(message_id)

        self.both(handle, labelled)

    # -- events

    def send(
        self,
        handle: int,
        run_id: str,
        event_type: str,
        correlation_id: str | None = None,
        data: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        event = NewEvent(
            event_type=event_type, correlation_id=correlation_id, event_data=data, **more
        )
        self.both(handle, lambda side, world: world.events.create(run_id, event))

    @initialize(spec_version=versions)
    def one_running_run(self, spec_version: int) -> None:
        data = creation(b"in")
        self.send(0, RUNS[0], "run_started", data=data, spec_version=spec_version)
        self.send(0, RUNS[0], "step_created", "step_1", {"stepName": "add", "input": None})
        self.send(0, RUNS[0], "hook_created", "hook_1", {"token": TOKENS[0]})

    # -- time and processes

    @rule(seconds=st.sampled_from([0.001, 0.5, 1, 10, 31, 61, 4000]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(handle=handles, crashes=st.booleans())
    def end_a_process(self, handle: int, crashes: bool) -> None:
        """And begin another in its place."""
        for side in (self.model, self.system):
            if crashes:
                side.crash(handle)
            else:
                self.runner.run(side.restart(handle))

    @precondition(lambda self: self.engine.proves_absence and len(self.model.presences) < HANDLES)
    @rule()
    def worker_starts(self) -> None:
        """A worker that is alone frees all leases, where it can know that it is."""
        handle = next(n for n in range(HANDLES) if n not in self.model.presences)
        self.runner.run(self.model.enter(handle))
        self.runner.run(self.system.enter(handle))

    @precondition(lambda self: self.model.presences)
    @rule()
    def worker_leaves(self) -> None:
        handle = min(self.model.presences)
        self.model.leave(handle)
        self.system.leave(handle)

    # -- what must hold between any two operations

    @invariant()
    def same_rows(self) -> None:
        """Read through either handle in turn, so that what one has cached is seen to be right."""
        self.reader = (self.reader + 1) % HANDLES
        _, rows = self.both(self.reader, rows_of)
        runs, hooks, waits, details, *_ = rows
        for run, (steps, log) in zip(runs, details, strict=True):
            if (run.spec_version or 1) <= 1:
                continue  # the cancel of a legacy run is in no event
            folded = fold(log, OWNER)
            assert folded.run == run
            assert folded.steps == {step.step_id: step for step in steps}
            assert folded.hooks == {one.hook_id: one for one in hooks if one.run_id == run.run_id}
            assert folded.waits == {one.wait_id: one for one in waits if one.run_id == run.run_id}
            assert [event.position for event in log] == [*range(1, len(log) + 1)]


async def rows_of(side: Side, world: World) -> Any:
    """Everything that is stored, in lists: runs, hooks, waits, each run's steps and log, the
    queue in the order of creation, and the streams."""
    runs = (await world.runs.list(limit=EVERYTHING)).data
    return [
        runs,
        (await world.hooks.list(limit=EVERYTHING)).data,
        (await world.waits.list(limit=EVERYTHING)).data,
        [
            [
                (await world.steps.list(run.run_id, limit=EVERYTHING)).data,
                (await world.events.list(run.run_id, limit=EVERYTHING)).data,
            ]
            for run in runs
        ],
        await world.messages.stats(),
        await walk(world.messages.list, limit=EVERYTHING),
        [
            [
                name,
                await world.streams.get_info(run_id, name),
                (await world.streams.get_chunks(run_id, name, limit=EVERYTHING)).data,
            ]
            for run_id in STREAM_RUNS
            for name in await world.streams.list(run_id)
        ],
    ]
