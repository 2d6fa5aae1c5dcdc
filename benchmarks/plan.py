"""What is measured: the workloads, their measures, the targets and how much each does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach: at least ``limit`` where higher is better, else at most.

    The figure is the subject's median; with a peer, that of the ratios to it, round by round.
    """

    limit: float
    peer: str | None = None
    subject: str = "ours"


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. ``better`` says which direction is good."""

    name: str
    title: str
    unit: str
    better: Better
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """Runs of the real SDK: how many steps in each, how many at once, by how many processes.

    ``shares``: their replays share one sandbox of the SDK's, which imports nothing again.
    """

    steps: int
    runs: int = 1
    fan_out: bool = False
    workers: int = 1
    shares: bool = False

    def capped(self, most: int) -> Flow:
        return replace(self, steps=min(self.steps, most), runs=min(self.runs, most))


@dataclass(frozen=True, slots=True)
class Workload:
    """A thing to do, measured by one process per contender and round.

    ``flow`` is set where whole runs of the real SDK are measured, and None for single operations.
    """

    name: str
    measures: tuple[Measure, ...]
    flow: Flow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much a workload does. ``most_steps`` caps the steps and the runs of the SDK workloads."""

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
    callbacks: int = 2_000
    idle_s: float = 5.0
    memory_runs: int = 10_000
    other_runs: int = 10_000
    other_messages: int = 1_000_000
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
    callbacks=4,
    idle_s=0.4,
    memory_runs=10,
    other_runs=3,
    other_messages=3,
    most_steps=2,
    warm_up_steps=0,
)

FILLED = ("ours-10k-runs", "ours-1m-messages")
"""Ours on a store that holds much else; measured against ours on an empty one."""
_FILLED_FACTOR = 1.2


def _rate(name: str, title: str, unit: str, *targets: Target, filled: bool = False) -> Measure:
    # Of a rate, 1.2 times worse is 1/1.2 of it.
    more = [Target(1 / _FILLED_FACTOR, "ours", subject) for subject in FILLED if filled]
    return Measure(name, title, unit, "higher", (*targets, *more))


def _cost(
    name: str, title: str, *targets: Target, unit: str = "ms", filled: bool = False
) -> Measure:
    more = [Target(_FILLED_FACTOR, "ours", subject) for subject in FILLED if filled]
    return Measure(name, title, unit, "lower", (*targets, *more))


def _sdk(
    name: str,
    title: str,
    flow: Flow,
    times_floor: float | None,
    *more: Target,
    filled: bool = False,
) -> Workload:
    targets = more if times_floor is None else (Target(times_floor, "floor"), *more)
    return Workload(name, (_cost(name, title, *targets, unit="s", filled=filled),), flow)


def _single(measure: Measure) -> Workload:
    return Workload(measure.name, (measure,))


_WORLD_LEVEL: tuple[Workload, ...] = (
    _single(
        _rate("step_events_1", "Step events, 1 caller", "/s", Target(0.35, "raw"), filled=True)
    ),
    _single(
        _rate(
            "step_events_50",
            "Step events, 50 callers",
            "/s",
            Target(8, "local"),
            Target(1.5, "raw"),
            Target(0.5, "raw-pg", "ours-pg"),
            filled=True,
        )
    ),
    _single(_rate("enqueue_50", "Enqueue, 50 callers", "/s", Target(1.5, "raw"), filled=True)),
    _single(
        _rate(
            "drain",
            "Drain 5,000 no-op messages",
            "/s",
            Target(4, "local"),
            Target(1.5, "huey"),
            Target(1, "pgqueuer", "ours-pg"),
            filled=True,
        )
    ),
    _single(
        _cost(
            "pick_up",
            "Idle pick-up, p50",
            Target(3),
            Target(1, "pgqueuer", "ours-pg"),
            filled=True,
        )
    ),
    _single(
        _cost(
            "pick_up_other",
            "Idle pick-up from another process, p50",
            Target(15),
            Target(30, None, "ours-pg"),
        )
    ),
    Workload(
        "list_log",
        (
            _cost(
                "list_first",
                "List a 1,000-event log, first time",
                Target(0.35, "local"),
                Target(0.35, "local", "ours-sdk"),
                filled=True,
            ),
            _cost(
                "list_again",
                "The same, after one new event",
                Target(0.02, "local"),
                Target(0.02, "local", "ours-sdk"),
                filled=True,
            ),
        ),
    ),
    _single(
        _cost("hook_by_token", "Hook by token, 1,000 hooks", Target(0.05, "local"), filled=True)
    ),
    Workload(
        "stream",
        (
            _rate(
                "stream_write",
                "Stream: write_multi of 100",
                "chunks/s",
                Target(5, "local"),
                filled=True,
            ),
            _rate("stream_read", "Stream: read all", "chunks/s", Target(1, "local"), filled=True),
            _cost("stream_live", "Stream: live latency, p50", Target(2), filled=True),
        ),
    ),
    _single(
        _cost(
            "stream_live_other",
            "Stream: live latency from another process, p50",
            Target(15),
            Target(30, None, "ours-pg"),
        )
    ),
    _single(
        _cost(
            "run_end_other",
            "End of a run in another process, to the return of runs.wait, p50",
            Target(15),
            Target(30, None, "ours-pg"),
        )
    ),
    _single(_rate("callbacks", "Deliver by HTTP, 20 in flight", "/s", Target(2, "httpx"))),
    Workload(
        "idle",
        (
            _cost("idle_cpu", "Idle worker, CPU of a core", Target(1), unit="%"),
            _cost("idle_queries", "Idle worker, queries", Target(12), unit="/s"),
            _cost("idle_statements", "Idle worker, statements of any kind", unit="/s"),
        ),
    ),
    Workload(
        "trips",
        (
            _cost("requests_per_step", "Requests for the three events of a step", unit="each"),
            _cost("commits_per_step", "Commits for the three events of a step", unit="each"),
        ),
    ),
    _single(
        _cost(
            "memory", "Memory after all runs, of that after a tenth of them", Target(105), unit="%"
        )
    ),
)
_SDK_LEVEL: tuple[Workload, ...] = (
    *(
        _sdk(f"sequential_{n}", f"{n} steps in sequence", Flow(n), 1.25, filled=n == 10)
        for n in (10, 50, 100, 200)
    ),
    *(
        _sdk(
            f"fan_out_{n}",
            f"Fan-out of {n} steps",
            Flow(n, fan_out=True),
            0.6,
            filled=n == 50,
        )
        for n in (50, 200)
    ),
    *(
        _sdk(
            f"concurrent_{n}",
            f"{n} concurrent 3-step runs",
            Flow(3, runs=n),
            1.2,
            *([Target(1.35, "floor", "ours-pg")] if n == 100 else []),
            filled=n == 100,
        )
        for n in (20, 100, 300)
    ),
    *(
        _sdk(
            f"concurrent_{n}_two_workers",
            f"{n} concurrent 3-step runs, two worker processes",
            Flow(3, runs=n, workers=2),
            0.7,
        )
        for n in (100, 300)
    ),
    _sdk(
        "sequential_50_shared",
        "50 steps in sequence, a shared sandbox",
        Flow(50, shares=True),
        None,
    ),
    _sdk(
        "concurrent_100_shared",
        "100 concurrent 3-step runs, a shared sandbox",
        Flow(3, runs=100, shares=True),
        None,
    ),
)
WORKLOADS = (*_WORLD_LEVEL, *_SDK_LEVEL)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
MEASURES = {measure.name: measure for workload in WORKLOADS for measure in workload.measures}
