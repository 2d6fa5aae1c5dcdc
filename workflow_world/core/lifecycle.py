"""Which event may stand where in a log (spec 2.4 to 2.10), for a log that is already written.

Told from the spec a second time, without times and payloads, so that a check does not excuse what
the rules of ``rules_*`` would wrongly allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from .entities import Event
from .events import RUN_FINAL_EVENTS, SINGLE_EVENTS, STEP_OUTCOMES

_ONCE_PER_RUN: Final = ("run_created", "run_started")
_RUNNING_STEP: Final = ("step_started", "step_retrying", *STEP_OUTCOMES)
_LEGACY: Final = ("run_created", "wait_completed", "hook_received")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """Why an event may not stand where it does."""

    kind: Literal["repeated", "after-end", "order"]
    text: str


class Lifecycle:
    """Takes a run's events in order, each with an answer: None, or what is wrong with it.

    An event that may not be there changes nothing, so it is named once and not for what follows.
    """

    def __init__(self, *, legacy: bool = False) -> None:
        self._legacy = legacy
        self._opened = False
        self._ended: str | None = None
        self._seen: set[tuple[str, str]] = set()
        self._running: dict[str, bool] = {}

    def take(self, event: Event) -> Breach | None:
        breach = self._repeated(event) or self._late(event) or self._misplaced(event)
        if breach is None:
            self._learn(event)
        return breach

    def _repeated(self, event: Event) -> Breach | None:
        kind, key = event.event_type, event.correlation_id
        if kind in _ONCE_PER_RUN and (kind, "") in self._seen:
            return Breach(kind="repeated", text="the run has one already")
        if kind in RUN_FINAL_EVENTS and self._ended is not None:
            if kind == self._ended == "run_cancelled":
                return None
            return Breach(kind="repeated", text=f"the run has ended with {self._ended}")
        if key is None:
            return None
        if kind in SINGLE_EVENTS and (kind, key) in self._seen:
            return Breach(kind="repeated", text=f"there is one for {key!r:.80} already")
        if kind in STEP_OUTCOMES and ("outcome", key) in self._seen:
            return Breach(kind="repeated", text=f"step {key!r:.80} has an outcome already")
        if event.resume_id is not None and ("resume", event.resume_id) in self._seen:
            return Breach(kind="repeated", text=f"resume id {event.resume_id!r:.80} is used twice")
        return None

    def _late(self, event: Event) -> Breach | None:
        kind, key = event.event_type, event.correlation_id or ""
        if self._ended is None or kind in (self._ended, "noop"):
            return None
        if kind in _RUNNING_STEP and self._running.get(key):
            return None
        return Breach(kind="after-end", text=f"the run has ended with {self._ended}")

    def _misplaced(self, event: Event) -> Breach | None:
        text = self._order(event.event_type, event.correlation_id or "")
        return None if text is None else Breach(kind="order", text=text)

    def _order(self, kind: str, key: str) -> str | None:
        if not self._opened and kind not in ("run_created", "noop"):
            return "the run is not created yet"
        if self._legacy:
            return None if kind in _LEGACY else "a legacy run has no such event"
        if kind in _RUNNING_STEP:
            if ("step_created", key) not in self._seen:
                return f"step {key!r:.80} is not created"
            if ("outcome", key) in self._seen:
                return f"step {key!r:.80} has its outcome already"
        elif kind in ("hook_received", "hook_disposed"):
            if ("hook_created", key) not in self._seen:
                return f"hook {key!r:.80} is not created"
            if ("hook_disposed", key) in self._seen:
                return f"hook {key!r:.80} is disposed of"
        elif kind in ("hook_created", "hook_conflict"):
            if {("hook_created", key), ("hook_conflict", key)} & self._seen:
                return f"hook {key!r:.80} has its answer already"
        elif kind == "wait_completed" and ("wait_created", key) not in self._seen:
            return f"wait {key!r:.80} is not created"
        return None

    def _learn(self, event: Event) -> None:
        kind, key = event.event_type, event.correlation_id or ""
        self._opened = self._opened or kind == "run_created"
        self._seen.add((kind, "" if kind in _ONCE_PER_RUN else key))
        if event.resume_id is not None:
            self._seen.add(("resume", event.resume_id))
        if kind in RUN_FINAL_EVENTS:
            self._ended = kind
        elif kind in STEP_OUTCOMES:
            self._seen.add(("outcome", key))
            self._running.pop(key, None)
        elif kind in ("step_started", "step_retrying"):
            self._running[key] = kind == "step_started"
