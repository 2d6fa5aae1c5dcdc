"""``check``: walk everything that is stored, page by page, and collect what is wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from .queue import QueueCheck, WakeUpCheck
from .report import Notes, Progress, Report
from .runs import HookCheck, RunCheck

if TYPE_CHECKING:
    from ..world import World

MAX_FINDINGS: Final = 1_000


async def check(
    world: World,
    *,
    streams: bool = True,
    limit: int = MAX_FINDINGS,
    progress: Progress | None = None,
) -> Report:
    """Prove what must always hold of a store, and say where it does not.

    Reads only, through the seam, so it works on every backend and beside live workers: whatever
    may be a race is looked at again before it is reported. In memory it holds one page of a list
    and one run at a time.

    Args:
        world: opened if it is not yet; it need not be started.
        streams: also read the chunks of every stream of a run.
        limit: how many findings to keep; the others are counted.
        progress: told now and then how far it is.

    Returns: the report; ``docs/check.md`` explains each kind of finding.
    Raises: BackendError, SchemaError and what else opening the database raises: nothing can be
        said of it then.
    """
    await world.messages.stats()  # opens the database
    backend, settings, clock = world.backend, world.settings, world.clock
    notes = Notes(limit=limit, progress=progress)
    grace = timedelta(milliseconds=settings.recovery_grace_ms)
    await RunCheck(backend, notes, streams=streams).run()
    await HookCheck(backend, notes).run()
    await QueueCheck(backend, settings, clock, notes, grace).run()
    await WakeUpCheck(backend, settings, clock, notes, grace).run()
    return notes.report()
