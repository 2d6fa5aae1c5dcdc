"""Who is measured, and in what."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from .plan import BY_NAME, FILLED, WORKLOADS

_SDK = tuple(one.name for one in WORKLOADS if one.flow is not None)
_SDK_ALONE = tuple(one.name for one in WORKLOADS if one.flow is not None and one.flow.workers == 1)
_WORLD = tuple(one.name for one in WORKLOADS if one.flow is None)
_OURS_ONLY = ("callbacks", "idle", "memory", "trips", "run_end_other")
_ON_POSTGRES = (
    "sequential_10",
    "sequential_50",
    "fan_out_50",
    "fan_out_200",
    "concurrent_20",
    "concurrent_100",
)
_ON_SQLD = (
    "step_events_1",
    "step_events_50",
    "enqueue_50",
    "drain",
    "sequential_10",
    "sequential_50",
    "concurrent_20",
)
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
    """``needs`` is the module that must be importable, ``server`` another, of its server."""

    name: str
    title: str
    workloads: tuple[str, ...]
    needs: str
    server: str | None = None

    @property
    def missing(self) -> bool:
        return not (_is_there(self.needs) and (self.server is None or _is_there(self.server)))


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


CONTENDERS: tuple[Contender, ...] = (
    Contender(
        "ours",
        "workflow-world",
        tuple(name for name in _WORLD + _SDK if name != "trips"),
        "vercel.workflow",
    ),
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
    # It makes other replays of a fan-out, so there the statements of ours do not fit.
    Contender(
        "floor-statements",
        "the floor, which executes the SQL statements of ours",
        tuple(name for name in _SDK_ALONE if not name.startswith("fan_out")),
        "vercel.workflow",
    ),
    Contender(
        "raw",
        "sqlite3, a commit each",
        ("step_events_1", "step_events_50", "enqueue_50", "pick_up"),
        "sqlite3",
    ),
    Contender(
        "statements",
        "the SQL statements of ours alone, executed again by sqlite3",
        ("step_events_1", "step_events_50", "enqueue_50", "drain"),
        "sqlite3",
    ),
    Contender("httpx", "one plain httpx.AsyncClient", ("callbacks",), "httpx"),
    Contender("huey", "huey on SQLite, its default: no fsync", ("drain",), "huey"),
    Contender("huey-full", "huey on SQLite, fsync=True", ("drain",), "huey"),
    Contender("dbos", "DBOS on SQLite", _SDK_ALONE, "dbos"),
    Contender(
        "ours-pg",
        "workflow-world on Postgres",
        (
            "step_events_1",
            "step_events_50",
            "enqueue_50",
            "drain",
            "pick_up",
            *_OTHER_PROCESS,
            "run_end_other",
            *_ON_POSTGRES,
        ),
        "psycopg",
        "tests.servers.postgres",
    ),
    Contender(
        "raw-pg",
        "psycopg, a commit each, 10 connections (of one caller: 1)",
        ("step_events_1", "step_events_50", "enqueue_50"),
        "psycopg",
        "tests.servers.postgres",
    ),
    Contender(
        "floor-durable-pg",
        "the floor with a bare commit on Postgres before each answer, 10 connections",
        _ON_POSTGRES,
        "psycopg",
        "tests.servers.postgres",
    ),
    Contender(
        "pgqueuer",
        "pgqueuer on Postgres, its defaults",
        ("drain", "pick_up"),
        "pgqueuer",
        "asyncpg",
    ),
    Contender("dbos-pg", "DBOS on Postgres", _ON_POSTGRES, "dbos", "psycopg"),
    Contender(
        "ours-sqld",
        "workflow-world on a libSQL server beside it",
        (*_ON_SQLD, "trips"),
        "vercel.workflow",
        "pytest",
    ),
    Contender(
        "ours-sqld-20ms",
        "workflow-world on a libSQL server 20 ms away",
        _ON_SQLD,
        "vercel.workflow",
        "pytest",
    ),
)
CONTENDERS_BY_NAME = {contender.name: contender for contender in CONTENDERS}

assert all(name in BY_NAME for contender in CONTENDERS for name in contender.workloads)
