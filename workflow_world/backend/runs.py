"""Runs, steps, hooks, waits and the event log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from ..core.decision import Intent
from ..core.entities import Event, EventResult, Hook, Run, Step, Wait
from ..core.paging import Query
from ..core.recovery import RunFacts


@runtime_checkable
class RunStore(Protocol):
    """Runs, steps, hooks, waits and the event log."""

    async def write(self, intent: Intent) -> EventResult:
        """Load the intent's facts, call its ``decide``, apply the decision: one atomic step.

        The run is locked against every other writer, of any process, from before the facts are
        read until the commit. ``decide`` gets the process clock's time and may be called again
        with fresh facts. A decision that does not write needs no transaction; with
        ``intent.mostly_reads`` it is first tried on a plain read.

        Returns: the decision's result, after the commit.
        Raises: the refusal's error; BackendError.
        Source: spec 2.1, design 4.
        """
        ...

    async def get_run(self, run_id: str, *, payloads: bool = True) -> Run | None: ...

    async def get_runs(self, run_ids: Sequence[str]) -> Mapping[str, Run]:
        """The runs among ``run_ids`` that exist, by id; one statement for many of them."""
        ...

    async def get_step(self, run_id: str | None, step_id: str) -> Step | None:
        """A step; with ``run_id`` None the newest with that id in any run (spec 3.1)."""
        ...

    async def get_event(self, run_id: str, event_id: str) -> Event | None: ...

    async def get_hook(
        self, *, hook_id: str | None = None, token: str | None = None
    ) -> Hook | None:
        """The live hook with this token, or the newest live hook with this id."""
        ...

    async def list_runs(self, query: Query) -> Sequence[Run]:
        """Rows in the order of the query's key, from behind ``query.after``, in one statement.

        At most ``query.limit`` rows. The same holds for every ``list_`` verb.
        """
        ...

    async def list_steps(self, query: Query) -> Sequence[Step]: ...

    async def list_events(self, query: Query) -> Sequence[Event]:
        """Always a prefix of the log: never an event without all earlier ones (spec 3.3)."""
        ...

    async def list_hooks(self, query: Query) -> Sequence[Hook]: ...

    async def list_waits(self, query: Query) -> Sequence[Wait]:
        """Waits of runs that have not ended."""
        ...

    async def stranded(
        self, *, after: str | None, limit: int
    ) -> tuple[Sequence[RunFacts], str | None]:
        """Facts of runs that may lack a wake-up, for the sweep (spec 4.10), by run id.

        Candidates: pending or running runs without an unfinished message; those with a live hook
        and no unfinished message that replays them and is claimed or due within ``MOMENT``; and
        runs with a step that is not final and has neither an unfinished nor a failed message.
        False positives are allowed, false negatives are not.

        Returns: up to ``limit`` facts behind run id ``after``, and the run id to go on from or
        None at the end.
        """
        ...
