"""What is measured: the workloads, their measures and how much each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. ``better`` says which direction is good."""

    name: str
    title: str
    unit: str
    better: Better


@dataclass(frozen=True, slots=True)
class Workload:
    """A thing to do, measured by one process per contender and round.

    ``level`` is ``world`` for single operations and ``sdk`` for whole runs of the real SDK.
    """

    name: str
    level: Literal["world", "sdk"]
    measures: tuple[Measure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much a workload does. ``most_steps`` caps the SDK workloads."""

    steps_alone: int = 600
    callers: int = 50
    steps_each: int = 40
    messages_each: int = 100
    drained: int = 5_000
    pick_ups: int = 60
    log_events: int = 1_000
    logs: int = 3
    log_repeats: int = 10
    hooks: int = 1_000
    lookups: int = 60
    stream_batches: int = 20
    stream_chunks: int = 100
    live_chunks: int = 60
    most_steps: int = 1_000
    warm_up_steps: int = 1


TINY = Sizes(
    steps_alone=2,
    callers=2,
    steps_each=1,
    messages_each=2,
    drained=4,
    pick_ups=2,
    log_events=8,
    logs=1,
    log_repeats=1,
    hooks=3,
    lookups=2,
    stream_batches=2,
    stream_chunks=3,
    live_chunks=2,
    most_steps=2,
    warm_up_steps=0,
)


def _rate(name: str, title: str, unit: str) -> Measure:
    return Measure(name, title, unit, "higher")


def _time(name: str, title: str, unit: str = "ms") -> Measure:
    return Measure(name, title, unit, "lower")


def _sdk(name: str, title: str) -> Workload:
    return Workload(name, "sdk", (_time(name, title, "s"),))


WORKLOADS: tuple[Workload, ...] = (
    Workload("step_events_1", "world", (_rate("step_events_1", "Step events, 1 caller", "/s"),)),
    Workload(
        "step_events_50", "world", (_rate("step_events_50", "Step events, 50 callers", "/s"),)
    ),
    Workload("enqueue_50", "world", (_rate("enqueue_50", "Enqueue, 50 callers", "/s"),)),
    Workload("drain", "world", (_rate("drain", "Drain 5,000 no-op messages", "/s"),)),
    Workload("pick_up", "world", (_time("pick_up", "Idle pick-up, p50"),)),
    Workload(
        "list_log",
        "world",
        (
            _time("list_first", "List a 1,000-event log, first time"),
            _time("list_again", "The same, after one new event"),
        ),
    ),
    Workload("hook_by_token", "world", (_time("hook_by_token", "Hook by token, 1,000 hooks"),)),
    Workload(
        "stream",
        "world",
        (
            _rate("stream_write", "Stream: write_multi of 100", "chunks/s"),
            _rate("stream_read", "Stream: read all", "chunks/s"),
            _time("stream_live", "Stream: live latency, p50"),
        ),
    ),
    *(_sdk(f"sequential_{n}", f"{n} steps in sequence") for n in (10, 50, 100, 200)),
    *(_sdk(f"fan_out_{n}", f"Fan-out of {n} steps") for n in (50, 200)),
    _sdk("concurrent_100", "100 concurrent 3-step runs"),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
