"""Who is measured, and in what."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from .plan import BY_NAME, WORKLOADS

_WORLD = tuple(workload.name for workload in WORKLOADS if workload.level == "world")
_SDK = tuple(workload.name for workload in WORKLOADS if workload.level == "sdk")


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
    Contender("ours-sdk", "workflow-world through the SDK's models", _WORLD, "vercel.workflow"),
    Contender("local", "the SDK's LocalWorld", _WORLD + _SDK, "vercel.workflow"),
    Contender("floor", "zero-cost in-memory World", _WORLD + _SDK, "vercel.workflow"),
    Contender(
        "raw",
        "sqlite3, a commit each",
        ("step_events_1", "step_events_50", "enqueue_50"),
        "sqlite3",
    ),
    Contender("huey", "huey on SQLite, its default: no fsync", ("drain",), "huey"),
    Contender("huey-full", "huey on SQLite, fsync=True", ("drain",), "huey"),
    Contender("dbos", "DBOS on SQLite", _SDK, "dbos"),
)
CONTENDERS_BY_NAME = {contender.name: contender for contender in CONTENDERS}

assert all(name in BY_NAME for contender in CONTENDERS for name in contender.workloads)
