"""``attr_set`` (spec 2.9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..errors import InvalidAttributesError, InvalidRequestError, RunExpiredError
from .attributes import changes_of, merged
from .decision import Decision, Refusal, Verdict
from .entities import EventResult
from .events import NewEvent, data_of
from .rules import Given, conflict


def check_shape(event: NewEvent) -> None:
    """The part of the rules that needs no stored fact, so that it fails before anything is read.

    Raises: InvalidAttributesError or InvalidRequestError.
    """
    writer = data_of(event).get("writer")
    kind: object = writer.get("type") if isinstance(writer, Mapping) else None  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]
    if kind not in ("workflow", "step"):
        raise InvalidRequestError("attr_set needs a writer of type workflow or step")
    if (kind == "workflow") != (event.correlation_id is not None):
        raise InvalidRequestError(
            "attr_set needs a correlationId when the writer is the workflow, and none for a step"
        )
    changes = changes_of(data_of(event).get("changes"))
    if not changes:
        raise InvalidAttributesError("attr_set needs at least one change")
    merged({}, changes, reserved=bool(data_of(event).get("allowReservedAttributes")))


def attr_set(given: Given) -> Verdict:
    run = given.run
    if run.is_final:
        # Not a conflict: the SDK would replay for ever on one (spec C-7).
        return Refusal(
            error=RunExpiredError(
                f"Cannot set attributes: terminal run {run.run_id!r} is {run.status}"
            )
        )
    try:
        attributes = merged(
            run.attributes,
            changes_of(given.data.get("changes")),
            reserved=bool(given.data.get("allowReservedAttributes")),
        )
    except InvalidAttributesError as error:
        return Refusal(error=error)
    if given.related("attr_set") is not None:
        return conflict(f"Attributes {given.entity_id!r} of run {given.run_id!r} are already set")
    event = given.row()
    changed = replace(run, attributes=attributes, updated_at=event.created_at)
    return Decision(events=(event,), run=changed, result=EventResult(event=event, run=changed))
