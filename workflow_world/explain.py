"""Look at one run: where it is, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .core.entities import MessageStatus, Run
from .core.reasons import Facts, reasons
from .world import World

__all__ = ["Explanation", "explain"]

_MOST: Final = 100
_STATUSES: Final[tuple[MessageStatus, ...]] = ("processing", "pending", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A run without its payloads, and the reasons as text, the most telling first.

    The texts name steps, hooks and waits by id, and no payload or hook token.
    """

    run: Run
    reasons: Sequence[str]


async def explain(world: World, run_id: str) -> Explanation:
    """Why the run has ended as it did, or what it waits for.

    Of steps, waits, hooks and messages a hundred each are looked at.

    Raises: RunNotFoundError.
    """
    run = await world.runs.get(run_id, resolve_data="none")
    steps = await world.steps.list(
        run_id,
        status=("failed",) if run.is_final else ("pending", "running"),
        limit=_MOST,
        sort_order="asc",
        resolve_data="none",
    )
    waits = await world.waits.list(run_id, limit=_MOST)
    hooks = await world.hooks.list(run_id, limit=_MOST, resolve_data="none")
    messages = [
        message
        for status in _STATUSES
        for message in (await world.messages.list(status=status, run_id=run_id, limit=_MOST)).data
    ]
    facts = Facts(run=run, steps=steps.data, waits=waits.data, hooks=hooks.data, messages=messages)
    return Explanation(run=run, reasons=reasons(facts, world.clock.now()))
