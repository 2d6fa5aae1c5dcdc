"""Who is measured, and in what."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from .plan import BY_NAME, FILLED, WORKLOADS

_SDK = tuple(one.name for one in WORKLOADS if one.flow is not None)
_SDK_ALONE = tuple(one.name for one in WORKLOADS if one.flow is not None and one.flow.workers == 1)
_WORLD = tuple(one.name for one in WORKLOADS if one.flow is None)
_OURS_ONLY = ("callbacks", "idle", "memory")
_OTHER_PROCESS = ("pick_up_other", "stream_live_other")
_IN_PROCESS = tuple(name for name in _WORLD if name not in (*_OURS_ONLY, *_OTHER_PROCESS))
# One per measure that a target names for a store that holds much else.
_ON_FILLED = tuple(
    one.name
    for one in WORKLOADS
    if any(target.subject in FILLED for measure in one.measures for target in measure.targets)
)


@dataclass(frozen=True, slots=True)
class Contender:
    """``needs`` is the module that must be importable."""

    name: str
    title: str
    workloads: tuple[str, ...]
    needs: str

    @property
    def missing(self) -> bool:
        try:
            return importlib.util.find_spec(self.needs) is None
        except ModuleNotFoundError:
            return True


CONTENDERS: tuple[Contender, ...] = (
    Contender("ours", "workflow-world", _WORLD + _SDK, "vercel.workflow"),
    Contender(
        "ours-sdk", "workflow-world through the SDK's models", _IN_PROCESS, "vercel.workflow"
    ),
    Contender(
        "ours-10k-runs",
        "workflow-world on a store of 10,000 other finished runs",
        _ON_FILLED,
        "vercel.workflow",
    ),
    Contender(
        "ours-1m-messages",
        "workflow-world on a store of 1,000,000 finished messages",
        _ON_FILLED,
        "vercel.workflow",
    ),
    # Its queue is in memory: no other process can send to it, or work for it.
    Contender(
        "local",
        "the SDK's LocalWorld",
        (*_IN_PROCESS, "stream_live_other", *_SDK_ALONE),
        "vercel.workflow",
    ),
    Contender("floor", "zero-cost in-memory World", _IN_PROCESS + _SDK, "vercel.workflow"),
    Contender(
        "floor-durable",
        "the floor with a bare commit before each answer",
        _SDK_ALONE,
        "vercel.workflow",
    ),
    Contender(
        "raw",
        "sqlite3, a commit each",
        ("step_events_1", "step_events_50", "enqueue_50"),
        "sqlite3",
    ),
    Contender("httpx", "one plain httpx.AsyncClient", ("callbacks",), "httpx"),
    Contender("huey", "huey on SQLite, its default: no fsync", ("drain",), "huey"),
    Contender("huey-full", "huey on SQLite, fsync=True", ("drain",), "huey"),
    Contender("dbos", "DBOS on SQLite", _SDK_ALONE, "dbos"),
)
CONTENDERS_BY_NAME = {contender.name: contender for contender in CONTENDERS}

assert all(name in BY_NAME for contender in CONTENDERS for name in contender.workloads)
