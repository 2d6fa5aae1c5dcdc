"""Wait events (spec 2.9). A wait is its two event rows; ``due_at`` marks the open one."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from ..errors import WaitNotFoundError
from .decision import Decision, Refusal, Verdict
from .entities import EventResult
from .fold import wait_of
from .rules import Given, conflict, on_final_run


def created(given: Given) -> Verdict:
    if given.run.is_final:
        return on_final_run(given.run, "create a wait")
    if given.related("wait_created") is not None:
        return conflict(f"Wait {given.entity_id!r} of run {given.run_id!r} already exists")
    event = given.row(due_at=cast("datetime", given.data["resumeAt"]))
    return Decision(events=(event,), result=EventResult(event=event, wait=wait_of(event, None)))


def completed(given: Given) -> Verdict:
    if given.run.is_final:
        return on_final_run(given.run, "complete a wait")
    creation = given.related("wait_created")
    if creation is None:
        return Refusal(error=WaitNotFoundError(given.run_id, given.entity_id))
    if given.related("wait_completed") is not None:
        return conflict(f"Wait {given.entity_id!r} of run {given.run_id!r} is already completed")
    event = given.row()
    return Decision(
        events=(event,),
        closed_wait=creation.position,
        result=EventResult(event=event, wait=wait_of(creation, event)),
    )
