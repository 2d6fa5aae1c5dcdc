"""What every rule of the state machine is given, and the refusals that several of them share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ..errors import EntityConflictError
from . import log
from .decision import Facts, Refusal
from .entities import Event, EventData, Run
from .events import NewEvent, data_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What is stamped on new hooks (spec 1.5)."""

    owner_id: str = "default"
    project_id: str = "default"
    environment: str = "development"


class Given(NamedTuple):
    """One proposed event with everything its rule may look at."""

    run_id: str
    event: NewEvent
    facts: Facts
    now: datetime
    owner: Owner

    @property
    def run(self) -> Run:
        """The run; the order of checks guarantees it for every rule but run creation."""
        assert self.facts.run is not None
        return self.facts.run

    @property
    def data(self) -> EventData:
        return data_of(self.event)

    @property
    def entity_id(self) -> str:
        """The correlation id, which the shape check has required."""
        assert self.event.correlation_id is not None
        return self.event.correlation_id

    def row(
        self,
        *,
        due_at: datetime | None = None,
        event_type: str | None = None,
        event_data: EventData | None = None,
        without_data: bool = False,
    ) -> Event:
        """The log row for this event, behind the run's last one."""
        return log.append(
            self.run_id,
            self.run.spec_version,
            self.facts.last,
            self.now,
            self.event,
            due_at=due_at,
            event_type=event_type,
            event_data=event_data,
            without_data=without_data,
        )

    def related(self, event_type: str) -> Event | None:
        """The run's event of this type with the same correlation id."""
        return next((e for e in self.facts.related if e.event_type == event_type), None)


def conflict(message: str) -> Refusal:
    return Refusal(error=EntityConflictError(message))


def on_final_run(run: Run, what: str) -> Refusal:
    return conflict(f"Cannot {what}: terminal run {run.run_id!r} is {run.status}")
