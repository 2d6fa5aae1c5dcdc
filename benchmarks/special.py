"""World-level workloads that open their Worlds themselves, in their own way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from . import across, callbacks, idle, memory, trips
from .plan import Sizes

SPECIAL: dict[str, Callable[[str, Sizes, Path], Awaitable[dict[str, float]]]] = {
    "pick_up_other": across.pick_up,
    "stream_live_other": across.stream_live,
    "run_end_other": across.run_end,
    "callbacks": callbacks.run,
    "idle": idle.run,
    "memory": memory.run,
    "trips": trips.run,
}
