"""What happened: steps as they were executed (a file) and as they were recorded (the event log)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..core.entities import Event
from ..core.events import STEP_OUTCOMES
from ..world import World

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A line of ``executed.log``: one time that the body of a step began."""

    at: float
    step_id: str
    what: str


@dataclass(slots=True)
class Record:
    """Both sides so far, in order."""

    executions: list[Execution] = field(default_factory=list[Execution])
    events: list[Event] = field(default_factory=list[Event])

    def label(self, step_id: str | None) -> str:
        """What a step is about, in words."""
        return next((row.what for row in self.executions if row.step_id == step_id), "a step")

    def count(self, *types: str) -> int:
        return sum(event.event_type in types for event in self.events)

    def executed(self) -> Mapping[str, int]:
        """Step in words -> how often its body began."""
        return Counter(row.what for row in self.executions)

    def outcomes(self) -> Mapping[str, int]:
        """Step in words -> how often an outcome of it was recorded."""
        return self._steps_with(*STEP_OUTCOMES)

    def retries(self) -> Mapping[str, int]:
        """Step in words -> how often a failure of it was recorded that will be retried."""
        return self._steps_with("step_retrying")

    def in_flight(self) -> set[str]:
        """Steps that were begun and have no outcome yet."""
        return set(self.executed()) - set(self.outcomes())

    def _steps_with(self, *types: str) -> Mapping[str, int]:
        return Counter(
            self.label(event.correlation_id) for event in self.events if event.event_type in types
        )


class Follower:
    """Reads what is new on both sides, each line and event once."""

    def __init__(self, world: World, run_id: str, executed: Path) -> None:
        self._world, self._run_id = world, run_id
        self._path = executed
        self._read = 0
        self._cursor: str | None = None
        self.record = Record()

    async def news(self) -> list[Execution | Event]:
        """What happened since the last call, by time."""
        events = await self._events()
        executions = list(self._executions())
        self.record.executions += executions
        self.record.events += events
        return sorted([*executions, *events], key=time_of)

    async def _events(self) -> list[Event]:
        found: list[Event] = []
        while True:
            page = await self._world.events.list(
                self._run_id, cursor=self._cursor, limit=_PAGE, resolve_data="none"
            )
            found += page.data
            self._cursor = page.cursor or self._cursor
            if not page.has_more:
                return found

    def _executions(self) -> Iterator[Execution]:
        if not self._path.exists():
            return
        lines = self._path.read_text().splitlines()
        for line in lines[self._read :]:
            at, step_id, what = line.split("\t")
            yield Execution(at=float(at), step_id=step_id, what=what)
        self._read = len(lines)


def time_of(item: Execution | Event) -> float:
    return item.at if isinstance(item, Execution) else item.created_at.timestamp()


def times_of(events: Iterable[Event], event_type: str) -> list[float]:
    return [event.created_at.timestamp() for event in events if event.event_type == event_type]
