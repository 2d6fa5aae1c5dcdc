"""The kinds of findings: what each says, and what a person can do where no repair does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """``broken`` is the rule that does not hold. ``advice`` is for whoever has to mend it."""

    broken: str
    advice: str


_LOG: Final = (
    "The log is the truth, so nothing can mend it from within: restore the run from a backup, "
    "or cancel it and start it anew"
)
_ROW: Final = "Restore the row from a backup; what the log says of it is in world.events.list"
_MESSAGE: Final = (
    "Look at it with world.messages.get; when it says nothing, world.messages.delete it: "
    "a run that needs it is woken by the next recovery pass"
)

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "run-unreadable": Kind(broken="The row of a run can be decoded", advice=_ROW),
        "run-missing": Kind(
            broken="A log belongs to a run", advice="Restore the row of the run from a backup"
        ),
        "run-without-log": Kind(broken="A run has at least its creation in its log", advice=_LOG),
        "run-differs": Kind(broken="A run is what its log says", advice=_ROW),
        "run-stuck": Kind(
            broken="A run that has not ended has a message, or waits for something",
            advice="Start a worker: its recovery pass wakes the run",
        ),
        "run-blocked": Kind(
            broken="A step that has not ended has a message that is not failed",
            advice="Look at the failed messages of the run: world.messages.retry delivers one "
            "again, or world.runs.cancel ends the run",
        ),
        "log-unreadable": Kind(broken="Every event can be decoded", advice=_LOG),
        "log-gap": Kind(broken="Positions are dense from 1", advice=_LOG),
        "log-malformed": Kind(broken="An event has the data of its type", advice=_LOG),
        "log-id": Kind(broken="Event ids have their form and rise", advice=_LOG),
        "log-time": Kind(broken="Times never go back within a log", advice=_LOG),
        "log-repeated": Kind(broken="What happens once stands once in the log", advice=_LOG),
        "log-after-end": Kind(
            broken="After the end of a run only its running steps go on", advice=_LOG
        ),
        "log-order": Kind(broken="An event follows what it rests on", advice=_LOG),
        "step-unreadable": Kind(broken="The row of a step can be decoded", advice=_ROW),
        "step-differs": Kind(broken="A step is what its log says", advice=_ROW),
        "step-missing": Kind(broken="A step of the log has a row", advice=_ROW),
        "step-unexpected": Kind(
            broken="A step has its creation in the log",
            advice="Delete the row by hand: nothing in the log speaks of this step",
        ),
        "hook-unreadable": Kind(broken="The row of a hook can be decoded", advice=_ROW),
        "hook-differs": Kind(
            broken="A hook is what its log says",
            advice="Dispose of the hook, or correct its row by hand: who holds the token now "
            "may differ from what the log says",
        ),
        "hook-missing": Kind(broken="A hook that is live in the log has a row", advice=_ROW),
        "hook-unexpected": Kind(broken="A live hook is live in the log", advice=_ROW),
        "hook-of-ended-run": Kind(broken="A run that has ended has no live hook", advice=_ROW),
        "hook-token": Kind(
            broken="A token belongs to one live hook",
            advice="Dispose of one of the two hooks, or cancel one of their runs",
        ),
        "hook-of-no-run": Kind(
            broken="A live hook belongs to a run", advice="Delete the row of the hook by hand"
        ),
        "wait-differs": Kind(broken="A wait is what its log says", advice=_LOG),
        "wait-due": Kind(
            broken="Exactly the open waits are marked as due",
            advice="Correct due_at of the event by hand, or send the run a message when its "
            "time has come",
        ),
        "message-unreadable": Kind(
            broken="The row of a message can be decoded", advice="Delete the row by hand"
        ),
        "message-body": Kind(broken="The body of a message is CBOR", advice=_MESSAGE),
        "message-malformed": Kind(
            broken="A message has an id, a queue and a subject as the queue makes them",
            advice=_MESSAGE,
        ),
        "message-state": Kind(
            broken="Status, lease and times of a message agree",
            advice="Correct the row by hand, or world.messages.delete it",
        ),
        "message-orphan": Kind(
            broken="A message for a run has a run, once its sender had time to create it",
            advice=_MESSAGE,
        ),
        "lease-expired": Kind(
            broken="A lease that ran out is soon freed",
            advice="Start a worker: it takes the message over",
        ),
        "stream-unreadable": Kind(
            broken="Every chunk of a stream can be decoded",
            advice="Restore the stream from a backup; its readers end at the damaged chunk",
        ),
        "stream-gap": Kind(
            broken="Chunks are dense from 0",
            advice="Restore the stream from a backup; its readers end at the gap",
        ),
    }
)
