"""What the queue reads out of a message's payload (spec 4.2), and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

_WAKE_UP_KEYS: Final = frozenset({"runId", "requestedAt", "traceCarrier"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom a message is for.

    Attributes:
        run_id, step_id: copied into columns for recovery; None for health checks.
        is_bare: the payload only says "replay this run".
    """

    run_id: str | None = None
    step_id: str | None = None
    is_bare: bool = False


def subject_of(payload: object) -> Subject:
    """Recognise the four kinds of payload; anything else has no subject."""
    if not isinstance(payload, Mapping):
        return Subject()
    body = cast("Mapping[str, object]", payload)
    if body.get("__healthCheck") is True:
        return Subject()
    run_id = body.get("runId") or body.get("workflowRunId")
    step_id = body.get("stepId")
    if not isinstance(run_id, str):
        return Subject()
    present = {key for key, value in body.items() if value is not None}
    return Subject(
        run_id=run_id,
        step_id=step_id if isinstance(step_id, str) else None,
        is_bare="runId" in present and present <= _WAKE_UP_KEYS,
    )


def is_wake_up(
    subject: Subject,
    *,
    delay_seconds: float,
    idempotency_key: str | None,
    headers: Mapping[str, str] | None = None,
) -> bool:
    """Whether another pending message of the same kind in its queue makes this one superfluous.

    Whoever claims the pending one reads everything that was committed before the claim (design 7),
    but gets no header of this one.
    """
    return subject.is_bare and delay_seconds <= 0 and idempotency_key is None and not headers
