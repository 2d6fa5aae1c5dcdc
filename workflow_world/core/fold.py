"""Entities from their events: the oracle for stored rows, and the only form of a wait."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from .entities import Event, Wait


def wait_of(created: Event, completed: Event | None) -> Wait:
    """The wait that a ``wait_created`` row and, if there is one, its ``wait_completed`` row make."""
    data = created.event_data or {}
    return Wait(
        run_id=created.run_id,
        wait_id=created.correlation_id or "",
        status="waiting" if completed is None else "completed",
        resume_at=cast("datetime | None", data.get("resumeAt")),
        completed_at=None if completed is None else completed.created_at,
        created_at=created.created_at,
        updated_at=(completed or created).created_at,
        spec_version=created.spec_version,
    )
